//! What plugins count in a store.

use uuid::Uuid;

use super::{Kit, id};
use crate::StoreError;
use crate::counters::{Counted, Counter};

pub(super) async fn counters_are_added_to_all_together_or_not_at_all(kit: Kit) {
    let counter = |period: &str, by, bound| Counter {
        identifier: "who".to_owned(),
        period: period.to_owned(),
        start: 1_764_000_000,
        service: Uuid::nil(),
        route: id(1),
        by,
        bound,
        lives: 60,
    };
    let count = |counters| kit.store.count(Counted::Requests, counters);
    if !kit.store.writable() {
        assert!(matches!(count(vec![counter("hour", 1, 5.0)]).await, Err(StoreError::Unavailable(_))));
        return;
    }
    assert_eq!(count(vec![counter("minute", 1, 2.0), counter("hour", 1, 5.0)]).await.unwrap(), [0, 0]);
    assert_eq!(count(vec![counter("minute", 1, 2.0), counter("hour", 3, 5.0)]).await.unwrap(), [1, 1]);
    // The minute is full, so the hour does not grow either.
    assert_eq!(count(vec![counter("minute", 1, 2.0), counter("hour", 1, 5.0)]).await.unwrap(), [2, 4]);
    assert_eq!(count(vec![counter("hour", 0, 5.0), counter("minute", 0, 0.0), counter("day", 0, 1.0)]).await.unwrap(), [4, 2, 0]);
    // The other plugin's counters are others, and so are those of another window, route or client.
    let other = kit.store.count(Counted::Responses, vec![counter("hour", 1, f64::INFINITY)]).await.unwrap();
    assert_eq!(other, [0]);
    let elsewhere = [
        Counter { route: id(2), ..counter("hour", 0, 1.0) },
        Counter { start: 1_764_003_600, ..counter("hour", 0, 1.0) },
        Counter { identifier: "another".to_owned(), ..counter("hour", 0, 1.0) },
    ];
    assert_eq!(count(elsewhere.to_vec()).await.unwrap(), [0, 0, 0]);
    // Those who count at the same moment lose nothing.
    let counts = (0..50).map(|_| kit.store.count(Counted::Responses, vec![counter("hour", 2, f64::INFINITY)]));
    for held in futures_util::future::join_all(counts).await {
        assert!(held.unwrap()[0] % 2 == 1);
    }
    assert_eq!(kit.store.count(Counted::Responses, vec![counter("hour", 0, 0.0)]).await.unwrap(), [101]);
    kit.store.count(Counted::Responses, vec![counter("hour", -1, f64::INFINITY)]).await.unwrap();
    assert_eq!(kit.store.count(Counted::Responses, vec![counter("hour", 0, 0.0)]).await.unwrap(), [100]);
    // And nothing passes a bound together.
    let racing = (0..50).map(|_| count(vec![counter("second", 1, 7.0), counter("year", 1, 90.0)]));
    let mut admitted: Vec<u64> = Vec::new();
    for held in futures_util::future::join_all(racing).await {
        admitted.extend(held.unwrap().first().filter(|held| **held < 7));
    }
    admitted.sort_unstable();
    assert_eq!(admitted, [0, 1, 2, 3, 4, 5, 6]);
    assert_eq!(count(vec![counter("year", 0, 90.0)]).await.unwrap(), [7]);
}
