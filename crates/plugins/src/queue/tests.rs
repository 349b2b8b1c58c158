//! What arrives, in which batches, and what is lost.
#![allow(clippy::unwrap_used)]

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use portcullis_plugin::testing::{env, outcome};
use portcullis_plugin::{Env, Step};
use serde_json::{Value, json};
use tokio::sync::mpsc;

use super::counts::Figures;
use super::{Config, Counts, OLD_DEFAULTS, Queue, Queues, Settings, drain};

type Entry = Box<[u8]>;
type Arrivals = mpsc::Receiver<Vec<String>>;

fn settings(given: Value) -> Settings {
    Settings::from(&serde_json::from_value::<Config>(given).unwrap())
}

/// A queue whose batches arrive in a channel after `failures` tries have failed.
fn queue(env: &Env, given: Value, failures: usize) -> (Queue<Entry>, Arrivals) {
    let (sender, arrivals) = mpsc::channel(100);
    let tries = Arc::new(AtomicUsize::new(0));
    let queue = env.state.get::<Queues<Entry>>().get(env, "test", "", settings(given), || {
        Box::new(move |batch: Arc<[Entry]>| {
            let (sender, tries) = (sender.clone(), tries.clone());
            Box::pin(async move {
                if tries.fetch_add(1, Ordering::SeqCst) < failures {
                    return Err("refused".to_owned());
                }
                let texts = batch.iter().map(|entry| String::from_utf8_lossy(entry).into_owned()).collect();
                sender.send(texts).await.map_err(|error| error.to_string())
            })
        })
    });
    (queue, arrivals)
}

/// How many entries were lost in this environment.
fn lost(env: &Env) -> u64 {
    env.state.get::<Counts>().figures().iter().map(|figures| figures.lost).sum()
}

fn push(queue: &Queue<Entry>, text: &str) {
    queue.push(text.as_bytes().into());
}

/// Runs a future on the tests' runtime.
fn wait<T: 'static>(future: impl Future<Output = T> + 'static) -> T {
    let result = std::rc::Rc::new(std::cell::RefCell::new(None));
    let slot = result.clone();
    outcome(Step::later(async move {
        *slot.borrow_mut() = Some(future.await);
        Ok(None)
    }))
    .unwrap();
    result.take().unwrap()
}

fn next(mut arrivals: Arrivals) -> (Option<Vec<String>>, Arrivals) {
    wait(async move { (arrivals.recv().await, arrivals) })
}

#[test]
fn entries_arrive_one_by_one_unless_batches_are_wanted() {
    let (queue, arrivals) = queue(&env(), json!({}), 0);
    push(&queue, "a");
    push(&queue, "b");
    let (first, arrivals) = next(arrivals);
    let (second, _) = next(arrivals);
    assert_eq!((first.unwrap(), second.unwrap()), (vec!["a".to_owned()], vec!["b".to_owned()]));
}

#[test]
fn a_full_batch_does_not_wait_and_a_small_one_only_so_long() {
    let (full, arrivals) = queue(&env(), json!({ "max_batch_size": 2, "max_coalescing_delay": 3600 }), 0);
    push(&full, "a");
    push(&full, "b");
    assert_eq!(next(arrivals).0.unwrap(), ["a", "b"]);
    let (small, arrivals) = queue(&env(), json!({ "max_batch_size": 3, "max_coalescing_delay": 0.01 }), 0);
    push(&small, "a");
    assert_eq!(next(arrivals).0.unwrap(), ["a"]);
}

#[test]
fn a_batch_is_sent_again_after_a_failure() {
    let env = env();
    let (queue, arrivals) = queue(&env, json!({ "initial_retry_delay": 0.001 }), 3);
    push(&queue, "a");
    assert_eq!(next(arrivals).0.unwrap(), ["a"]);
    assert_eq!(lost(&env), 0);
}

#[test]
fn a_batch_that_cannot_be_sent_is_given_up_and_the_next_one_goes_on() {
    let env = env();
    let (queue, arrivals) = queue(&env, json!({ "max_retry_time": 0 }), 1);
    push(&queue, "a");
    push(&queue, "b");
    assert_eq!(next(arrivals).0.unwrap(), ["b"]);
    assert_eq!(lost(&env), 1);
}

#[test]
fn a_full_queue_loses_its_oldest_entries() {
    let slow = |limits: Value| {
        let mut given = json!({ "max_batch_size": 100, "max_coalescing_delay": 3600 });
        given.as_object_mut().unwrap().extend(limits.as_object().unwrap().clone());
        given
    };
    for limits in [json!({ "max_entries": 2 }), json!({ "max_bytes": 3 })] {
        let env = env();
        let (queue, arrivals) = queue(&env, slow(limits), 0);
        ["a", "b", "cd"].iter().for_each(|text| push(&queue, text));
        let figures = env.state.get::<Counts>().figures();
        assert_eq!(figures, [Figures { plugin: "test", waiting: 2, sent: 0, lost: 1 }]);
        drop(queue);
        assert_eq!(next(arrivals).0.unwrap(), ["b", "cd"]);
    }
}

#[test]
fn what_is_left_is_sent_when_the_last_instance_goes() {
    let (queue, arrivals) = queue(&env(), json!({ "max_batch_size": 9, "max_coalescing_delay": 3600 }), 0);
    push(&queue, "a");
    drop(queue);
    let (first, arrivals) = next(arrivals);
    assert_eq!(first.unwrap(), ["a"]);
    assert_eq!(next(arrivals).0, None, "the task is gone");
}

#[test]
fn what_is_left_is_sent_when_the_node_stops() {
    let env = env();
    let (queue, mut arrivals) = queue(&env, json!({ "max_batch_size": 9, "max_coalescing_delay": 3600 }), 0);
    push(&queue, "a");
    let at_stop = env.clone();
    wait(async move { drain::drain(&at_stop, Duration::from_secs(60)).await });
    assert_eq!(arrivals.try_recv().unwrap(), ["a"]);
}

#[test]
fn a_stopping_node_does_not_wait_for_ever() {
    let env = env();
    let (queue, _arrivals) = queue(&env, json!({ "initial_retry_delay": 1000, "max_retry_delay": 1000 }), usize::MAX);
    push(&queue, "a");
    wait(async move { drain::drain(&env, Duration::from_millis(20)).await });
}

#[test]
fn equal_instances_share_a_queue() {
    let env = env();
    let (first, arrivals) = queue(&env, json!({}), 0);
    let (second, _) = queue(&env, json!({}), 0);
    let (other, _) = queue(&env, json!({ "max_entries": 7 }), 0);
    assert!(Arc::ptr_eq(&first.users, &second.users) && !Arc::ptr_eq(&first.users, &other.users));
    drop(first);
    push(&second, "a");
    assert_eq!(next(arrivals).0.unwrap(), ["a"]);
}

#[test]
fn without_a_limit_of_concurrency_nothing_queues() {
    let (queue, arrivals) = queue(&env(), json!({ "concurrency_limit": -1, "max_batch_size": 9, "max_coalescing_delay": 3600 }), 0);
    push(&queue, "a");
    assert_eq!(next(arrivals).0.unwrap(), ["a"]);
}

#[test]
fn older_settings_win_unless_they_hold_their_old_defaults() {
    let given: Config = serde_json::from_value(json!({ "max_batch_size": 5, "max_coalescing_delay": 3 })).unwrap();
    let settings = |size, delay| Settings::from(&given).with_older(size, delay, OLD_DEFAULTS);
    assert_eq!(settings(Some(1), Some(2.0)), Settings::from(&given));
    assert_eq!(settings(None, None), Settings::from(&given));
    let older = settings(Some(7), Some(0.5));
    assert_eq!((older.max_batch_size, older.max_coalescing_delay), (7, Duration::from_millis(500)));
}
