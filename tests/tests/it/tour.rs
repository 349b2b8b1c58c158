//! The README's tour: the very commands that stand there.

use portcullis_tests::{Gateway, Upstream};
use std::process::Command;

/// The README's commands, with this gateway's and upstream's addresses in place of the usual ones.
fn commands(gateway: &Gateway, upstream: &Upstream) -> Vec<String> {
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/../scripts/tour.sh");
    let output = Command::new("bash").args([script, "--commands"]).output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let places = [
        ("127.0.0.1:8000", gateway.proxy.to_string()),
        ("127.0.0.1:8001", gateway.admin_address.to_string()),
        ("127.0.0.1:9000", upstream.address.to_string()),
    ];
    let placed = |command: &str| places.iter().fold(command.to_owned(), |text, (usual, ours)| text.replace(usual, ours));
    text.split_terminator('\0').map(placed).collect()
}

fn shell(command: &str) -> String {
    let output = Command::new("bash").args(["-c", command]).output().unwrap();
    assert!(output.status.success(), "{command}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn the_tour_in_the_readme_works_as_it_stands_there() {
    let (gateway, upstream) = (Gateway::start(), Upstream::start());
    let commands = commands(&gateway, &upstream);
    assert_eq!(commands.len(), 5, "the tour has five commands");
    for (command, said) in commands.iter().zip(["\"host\"", "\"paths\"", "\"rate-limiting\"", "\"open-sesame\""]) {
        let answer = shell(command);
        assert!(answer.contains(said) && !answer.contains("\"message\""), "{command} answered {answer}");
    }
    let answer = shell(&commands[4]).to_lowercase();
    let (refused, served) = answer.split_once("http/1.1 200").expect("the second request is served");
    assert!(refused.starts_with("http/1.1 401"), "{refused}");
    assert!(served.contains("ratelimit-remaining: 4") && served.contains("x-consumer-username"), "{served}");
    for _ in 0..4 {
        shell(&commands[4]);
    }
    // The minute may have turned in between: then the count began anew, and only then.
    let last = shell(&commands[4]);
    assert!(last.contains("HTTP/1.1 429") || last.to_lowercase().contains("ratelimit-remaining: "), "{last}");
    assert!(upstream.seen().requests.iter().all(|request| request.starts_with("GET /echo")), "{:?}", upstream.seen());
}
