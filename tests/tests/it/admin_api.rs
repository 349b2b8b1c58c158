//! The Admin API end to end: a write is what the next request meets.

use portcullis_tests::{Gateway, Upstream, get};
use serde_json::json;

#[test]
fn a_write_is_met_by_the_next_request() {
    let (gateway, upstream) = (Gateway::start(), Upstream::start());
    let admin = gateway.admin();
    assert_eq!(get(gateway.proxy, "/a").status, 404);
    gateway.route("a", upstream.address);
    assert_eq!(get(gateway.proxy, "/a").status, 200);
    admin.patch("/routes/a", &json!({"paths": ["/b"]})).expect(200);
    assert_eq!(get(gateway.proxy, "/a").status, 404);
    assert_eq!(get(gateway.proxy, "/b").status, 200);
    admin.delete("/routes/a").expect(204);
    assert_eq!(get(gateway.proxy, "/b").status, 404);
}

#[test]
fn entities_are_found_by_id_and_by_name_and_survive_a_restart() {
    let mut gateway = Gateway::start();
    let made = gateway.admin().post("/services", &json!({"name": "kept", "url": "http://127.0.0.1:1/x"})).expect(201);
    let by_id = gateway.admin().get(&format!("/services/{}", made["id"].as_str().unwrap())).expect(200);
    assert_eq!(by_id, gateway.admin().get("/services/kept").expect(200));
    gateway.signal(libc::SIGTERM);
    assert!(gateway.wait().success());
    let prefix = gateway.prefix().to_str().unwrap().to_owned();
    let again = Gateway::with(&[("prefix", &prefix)]);
    assert_eq!(by_id, again.admin().get("/services/kept").expect(200));
}

#[test]
fn a_list_comes_in_pages() {
    let gateway = Gateway::start();
    let admin = gateway.admin();
    for number in 0..5 {
        admin.post("/consumers", &json!({"username": format!("c{number}")})).expect(201);
    }
    let (mut names, mut next) = (Vec::new(), "/consumers?size=2".to_owned());
    loop {
        let page = admin.get(&next).expect(200);
        names.extend(page["data"].as_array().unwrap().iter().map(|consumer| consumer["username"].as_str().unwrap().to_owned()));
        let Some(following) = page["next"].as_str() else { break };
        next = following.to_owned();
    }
    names.sort();
    assert_eq!(names, ["c0", "c1", "c2", "c3", "c4"]);
}

#[test]
fn the_declarative_file_is_served_without_a_database() {
    let upstream = Upstream::start();
    let folder = std::env::temp_dir().join(format!("portcullis-declarative-{}.yml", std::process::id()));
    let text = format!(
        "_format_version: \"3.0\"\nservices:\n- name: a\n  url: http://{}\n  routes:\n  - name: a\n    paths: [/a]\n",
        upstream.address
    );
    std::fs::write(&folder, text).unwrap();
    let gateway = Gateway::with(&[("database", "off"), ("declarative_config", folder.to_str().unwrap())]);
    assert_eq!(get(gateway.proxy, "/a").status, 200);
    assert_eq!(gateway.admin().post("/services", &json!({"url": "http://127.0.0.1:1"})).status, 405);
    std::fs::remove_file(folder).unwrap();
}
