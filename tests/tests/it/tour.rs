//! The README's tour, command by command.

use std::path::Path;
use std::process::Command;

use portcullis_tests::{Gateway, Upstream};

/// The tour's commands, in order, as `scripts/tour.sh` finds them.
fn commands() -> Vec<String> {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../scripts/tour.sh");
    let output = Command::new(script).arg("--commands").output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    text.split('\0').filter(|command| !command.is_empty()).map(str::to_owned).collect()
}

#[test]
fn the_five_commands_of_the_readme_do_what_it_says() {
    let upstream = Upstream::start();
    let gateway = Gateway::start();
    let places = [("127.0.0.1:8000", gateway.proxy()), ("127.0.0.1:8001", gateway.admin().address()), ("127.0.0.1:9000", upstream.address)];
    let answers: Vec<String> = commands()
        .iter()
        .map(|command| {
            let here = places.iter().fold(command.clone(), |text, (from, to)| text.replace(from, &to.to_string()));
            let output = Command::new("bash").arg("-c").arg(&here).output().unwrap();
            assert!(output.status.success(), "{here}: {}", String::from_utf8_lossy(&output.stderr));
            String::from_utf8(output.stdout).unwrap()
        })
        .collect();
    let [service, route, plugins, consumer, requests] = answers.try_into().expect("the tour has five commands");
    assert!(service.contains(r#""name":"hello""#), "{service}");
    assert!(route.contains(r#""paths":["/hello"]"#), "{route}");
    assert!(plugins.contains(r#""name":"key-auth""#) && plugins.contains(r#""name":"rate-limiting""#), "{plugins}");
    assert!(consumer.contains(r#""username":"ann""#) && consumer.contains(r#""key":"open-sesame""#), "{consumer}");
    assert!(requests.starts_with("HTTP/1.1 401 Unauthorized\r\n"), "{requests}");
    let (_, second) = requests.split_once("HTTP/1.1 200 OK\r\n").expect("the second request is let in");
    assert!(second.contains("\r\nRateLimit-Remaining: 4\r\n"), "{second}");
    assert!(second.contains(r#""x-consumer-username":"ann""#), "{second}");

    // One call is spent; the minute may turn once meanwhile, so more than five calls are tried.
    let mut client = gateway.client();
    let last = (0..12).find_map(|_| {
        client.send("GET /hello HTTP/1.1\r\nHost: gate.test\r\napikey: open-sesame\r\n\r\n");
        let answer = client.answer();
        (answer.status != 200).then_some(answer)
    });
    let last = last.expect("the limit is reached");
    assert_eq!((last.status, last.header("ratelimit-remaining")), (429, Some("0")));
    assert_eq!(last.json()["message"], "API rate limit exceeded");
    assert!(last.header("retry-after").is_some());
}
