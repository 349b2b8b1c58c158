//! Lists: pages, offsets, tags.

use serde_json::{Value, json};

use crate::kit::Gateway;

async fn with_consumers(count: usize) -> Gateway {
    let gateway = Gateway::start().await;
    for at in (1..=count).rev() {
        let path = format!("/consumers/00000000-0000-4000-8000-00000000002{at}");
        gateway.put(&path, json!({ "username": format!("w{at}"), "tags": [format!("t{}", at % 2), "all"] })).await.expect(200);
    }
    gateway
}

#[tokio::test]
async fn pages_follow_each_other_in_order_of_ids() {
    let gateway = with_consumers(5).await;
    let whole = gateway.get("/consumers").await.expect(200);
    assert_eq!((whole.column("username").len(), &whole.body["next"]), (5, &Value::Null));
    assert!(whole.body.get("offset").is_none());

    let mut path = "/consumers?size=2".to_owned();
    let mut seen = Vec::new();
    loop {
        let page = gateway.get(&path).await.expect(200);
        seen.push(page.column("username"));
        match page.body["next"].as_str() {
            Some(next) => path = next.to_owned(),
            None => break,
        }
    }
    assert_eq!(seen, [vec!["w1", "w2"], vec!["w3", "w4"], vec!["w5"]]);
}

#[tokio::test]
async fn a_page_goes_on_after_rows_that_are_gone() {
    let gateway = with_consumers(4).await;
    let offset = gateway.get("/consumers?size=2").await.body["offset"].as_str().unwrap().to_owned();
    gateway.delete("/consumers/w2").await.expect(204);
    let page = gateway.get(&format!("/consumers?size=3&offset={offset}")).await.expect(200);
    assert_eq!(page.column("username"), ["w3", "w4"]);
}

#[tokio::test]
async fn sizes_and_offsets_that_make_no_sense_are_refused() {
    let gateway = Gateway::start().await;
    for (query, message) in [
        ("size=0", "size must be an integer between 1 and 1000"),
        ("size=1001", "size must be an integer between 1 and 1000"),
        ("size=1.5", "size must be an integer between 1 and 1000"),
        ("size=ten", "size must be a number"),
        ("size=", "size must be a number"),
        ("size", "size must be a number"),
        ("size=0&offset=x", "size must be an integer between 1 and 1000"),
    ] {
        let reply = gateway.get(&format!("/services?{query}")).await.expect(400);
        assert_eq!(reply.body, json!({ "code": 9, "name": "invalid size", "message": message }), "{query}");
    }
    for offset in ["junk", "anVuaw", ""] {
        let reply = gateway.get(&format!("/services?offset={offset}")).await.expect(400);
        let message = format!("'{offset}' is not a valid offset: bad json encoding");
        assert_eq!(reply.body, json!({ "code": 7, "name": "invalid offset", "message": message }));
    }
}

#[tokio::test]
async fn rows_are_filtered_by_all_or_any_of_several_tags() {
    let gateway = with_consumers(4).await;
    let listed = async |query: &str| gateway.get(&format!("/consumers?{query}")).await.expect(200).column("username");
    assert_eq!(listed("tags=t1").await, ["w1", "w3"]);
    assert_eq!(listed("tags=t1,all").await, ["w1", "w3"]);
    assert_eq!(listed("tags=t0/t1").await.len(), 4);
    assert_eq!(listed("tags=t0,t1").await.len(), 0);
    assert_eq!(listed("tags=t1&tags=t0").await, ["w1", "w3"]);
    let paged = gateway.get("/consumers?tags=all&size=3").await.expect(200).body["next"].as_str().unwrap().to_owned();
    assert_eq!(gateway.get(&paged).await.expect(200).column("username"), ["w4"]);
    for (query, complaint) in [
        ("tags=", "cannot be null"),
        ("tags", "cannot be null"),
        ("tags=a,b/c", "invalid filter syntax"),
        ("tags=1,2,3,4,5,6", "cannot query more than 5 tags"),
    ] {
        let reply = gateway.get(&format!("/consumers?{query}")).await.expect(400);
        assert_eq!((&reply.body["code"], &reply.body["options"]), (&json!(11), &json!({ "tags": complaint })), "{query}");
    }
}

#[tokio::test]
async fn tags_lists_every_tag_with_what_carries_it() {
    let gateway = with_consumers(2).await;
    let tagged = gateway.get("/tags/all").await.expect(200);
    assert_eq!(tagged.column("entity_name"), ["consumers", "consumers"]);
    assert_eq!(gateway.get("/tags").await.expect(200).column("tag").len(), 4);
    let mut path = "/tags?size=1".to_owned();
    let mut seen = 0;
    while let Some(next) = gateway.get(&path).await.expect(200).body["next"].as_str() {
        (path, seen) = (next.to_owned(), seen + 1);
    }
    assert_eq!(seen, 3);
    assert_eq!(gateway.get("/tags/a,b").await.expect(400).body["code"], 10);
    gateway.post("/tags", json!({ "tag": "x" })).await.expect(400);
    gateway.delete("/tags/all").await.expect(400);
}

#[tokio::test]
async fn no_tag_is_skipped_where_entities_share_an_id() {
    let gateway = Gateway::start().await;
    for number in 1..=3 {
        let id = format!("00000000-0000-4000-8000-00000000000{number}");
        gateway.put(&format!("/consumers/{id}"), json!({ "username": format!("u{number}"), "tags": ["a", "b"] })).await.expect(200);
        gateway.put(&format!("/services/{id}"), json!({ "host": "h.test", "tags": ["b", "a"] })).await.expect(200);
        gateway.put(&format!("/upstreams/{id}"), json!({ "name": format!("n{number}.test"), "tags": ["a"] })).await.expect(200);
    }
    for (start, count) in [("/tags", 15), ("/tags/a", 9), ("/tags/b", 6)] {
        let whole = gateway.get(start).await.expect(200).body["data"].as_array().unwrap().clone();
        assert_eq!(whole.len(), count, "{start}");
        for size in 1..=4 {
            let (mut seen, mut path) = (Vec::new(), format!("{start}?size={size}"));
            loop {
                let page = gateway.get(&path).await.expect(200).body;
                seen.extend(page["data"].as_array().unwrap().clone());
                match page["next"].as_str() {
                    Some(next) => path = next.to_owned(),
                    None => break,
                }
            }
            assert_eq!(seen, whole, "{start}, {size} a page");
        }
    }
}
