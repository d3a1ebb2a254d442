//! What the store promises, one fact a test, through SQLite and files in a temporary folder.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic)]

mod common;

use common::{
    EXHAUSTED_EVENT, EXHAUSTED_OUTCOME, Watch, ephemeral, job, log, log_text, logged, open,
    open_at, options, submit,
};
use scumble_jobs::{
    Cancellation, Durability, Ending, Error, Event, JobStore as _, Lease, Status,
    sqlite::{SqliteOptions, SqliteStore},
};
use std::{
    fs,
    sync::{Arc, mpsc},
    task::{Context, Waker},
};
use tempfile::tempdir;
use tokio::sync::broadcast::error::RecvError;

fn assert_lease_lost(result: Result<(), Error>, lease: &Lease) {
    match result {
        Err(Error::LeaseLost { job_id, attempt }) => {
            assert_eq!((job_id, attempt), (lease.job_id.clone(), lease.attempt));
        }
        other => panic!("expected a lost lease, got {other:?}"),
    }
}

/// Returns once the writer has handled everything that was sent before.
async fn written(store: &SqliteStore) {
    store.append_queued("job_nobody", logged("")).await.unwrap();
}

#[tokio::test]
async fn an_accepted_job_is_there_after_reopening() {
    let folder = tempdir().unwrap();
    let clock = Arc::new(Watch::default());
    clock.set(1_700_000_000_123);
    let store = open_at(folder.path(), &clock);
    let accepted = submit(&store, "job_a").await.unwrap();
    assert_eq!(accepted.status, Status::Queued);
    assert_eq!(accepted.position, Some(1));
    assert_eq!(accepted.created_at_ms, 1_700_000_000_123);
    drop(store);

    let store = open(folder.path());
    assert_eq!(store.get("job_a").await.unwrap(), Some(accepted));
    assert_eq!(log_text(&store, "job_a").await, ["queued 1"]);
    assert_eq!(store.get("job_b").await.unwrap(), None);
}

#[tokio::test]
async fn a_full_queue_refuses_and_takes_again_once_a_job_is_leased() {
    let folder = tempdir().unwrap();
    let store = SqliteStore::open(SqliteOptions {
        queue_jobs_max: 2,
        ..options(folder.path())
    })
    .unwrap();
    submit(&store, "job_a").await.unwrap();
    submit(&store, "job_b").await.unwrap();
    let refused = submit(&store, "job_c").await;
    assert!(
        matches!(refused, Err(Error::QueueFull { queued: 2 })),
        "{refused:?}"
    );
    assert_eq!(store.get("job_c").await.unwrap(), None);
    store.lease().await.unwrap();
    submit(&store, "job_c").await.unwrap();
}

#[tokio::test]
async fn of_many_submissions_of_one_id_one_is_accepted() {
    let folder = tempdir().unwrap();
    let store = Arc::new(open(folder.path()));
    let attempts: Vec<_> = (0..50)
        .map(|_| {
            let store = Arc::clone(&store);
            tokio::spawn(async move { submit(&store, "job_a").await })
        })
        .collect();
    let mut accepted = 0;
    for attempt in attempts {
        match attempt.await.unwrap() {
            Ok(_) => accepted += 1,
            Err(Error::Duplicate(id)) => assert_eq!(id, "job_a"),
            Err(other) => panic!("{other}"),
        }
    }
    assert_eq!(accepted, 1);
    assert_eq!(log_text(&store, "job_a").await, ["queued 1"]);
}

#[tokio::test]
async fn concurrent_submissions_have_each_place_once() {
    let folder = tempdir().unwrap();
    let store = Arc::new(open(folder.path()));
    let attempts: Vec<_> = (0..64)
        .map(|number| {
            let store = Arc::clone(&store);
            tokio::spawn(async move { submit(&store, &format!("job_{number}")).await.unwrap() })
        })
        .collect();
    let mut places = Vec::new();
    for attempt in attempts {
        places.push(attempt.await.unwrap().position.unwrap());
    }
    places.sort_unstable();
    assert_eq!(places, (1..=64).collect::<Vec<_>>());
}

#[tokio::test]
async fn ids_that_could_mean_a_path_are_refused() {
    let folder = tempdir().unwrap();
    let store = open(folder.path());
    let too_long = "a".repeat(65);
    for id in [
        "", ".", "..", "../x", "a/b", "a\\b", "a\0", "JOB", "jób", "/etc", &too_long,
    ] {
        let refused = submit(&store, id).await;
        assert!(
            matches!(refused, Err(Error::InvalidId(_))),
            "{id:?}: {refused:?}"
        );
        let lease = Lease {
            job_id: id.to_owned(),
            attempt: 1,
            payload: Vec::new(),
            created_at_ms: 0,
            leased_at_ms: 0,
        };
        let refused = store.put_image(&lease, 0, vec![1]).await;
        assert!(
            matches!(refused, Err(Error::NotFound(_))),
            "{id:?}: {refused:?}"
        );
        assert_eq!(store.image(id, 0).await.unwrap(), None);
    }
    assert_eq!(
        fs::read_dir(folder.path().join("images")).unwrap().count(),
        0
    );
}

#[tokio::test]
async fn the_oldest_job_is_leased_first_and_the_rest_move_up() {
    let folder = tempdir().unwrap();
    let store = open(folder.path());
    // Ids that sort against their order of acceptance.
    for id in ["job_c", "job_b", "job_a"] {
        submit(&store, id).await.unwrap();
    }
    let places = |list: &[(&str, u32)]| -> Vec<(String, u32)> {
        list.iter()
            .map(|(id, position)| ((*id).to_owned(), *position))
            .collect()
    };
    let all = places(&[("job_c", 1), ("job_b", 2), ("job_a", 3)]);
    assert_eq!(store.queued(10).await.unwrap(), all);
    assert_eq!(store.queued(2).await.unwrap(), all[..2]);

    assert_eq!(store.lease().await.unwrap().job_id, "job_c");
    assert_eq!(
        store.queued(10).await.unwrap(),
        places(&[("job_b", 1), ("job_a", 2)])
    );
    assert_eq!(store.get("job_a").await.unwrap().unwrap().position, Some(2));
    store.cancel("job_b", b"cancelled".to_vec()).await.unwrap();
    assert_eq!(store.get("job_a").await.unwrap().unwrap().position, Some(1));
    assert_eq!(store.lease().await.unwrap().job_id, "job_a");
}

#[tokio::test]
async fn a_job_is_leased_worked_on_and_finished() {
    let folder = tempdir().unwrap();
    let clock = Arc::new(Watch::default());
    clock.set(10);
    let store = open_at(folder.path(), &clock);
    submit(&store, "job_a").await.unwrap();
    clock.set(20);
    let lease = store.lease().await.unwrap();
    assert_eq!(
        lease,
        Lease {
            job_id: "job_a".to_owned(),
            attempt: 1,
            payload: b"draw job_a".to_vec(),
            created_at_ms: 10,
            leased_at_ms: 20,
        }
    );
    store
        .append(&lease, vec![logged("started"), logged("progress 1")])
        .await
        .unwrap();
    clock.set(30);
    store
        .finish(
            &lease,
            Ending::Succeeded,
            b"result".to_vec(),
            b"complete".to_vec(),
        )
        .await
        .unwrap();

    let record = store.get("job_a").await.unwrap().unwrap();
    assert_eq!(record.status, Status::Succeeded);
    assert_eq!(record.attempt, 1);
    assert_eq!(record.position, None);
    assert_eq!(
        (
            record.created_at_ms,
            record.started_at_ms,
            record.finished_at_ms
        ),
        (10, Some(20), Some(30))
    );
    assert_eq!(record.outcome.as_deref(), Some(b"result".as_slice()));
    let events = log(&store, "job_a").await;
    let seen: Vec<_> = events
        .iter()
        .map(|event| (event.seq, event.payload.as_slice(), event.is_final))
        .collect();
    assert_eq!(
        seen,
        [
            (1, b"queued 1".as_slice(), false),
            (2, b"started", false),
            (3, b"progress 1", false),
            (4, b"complete", true)
        ]
    );
    assert!(
        *store.cancel_requested(&lease).borrow(),
        "a lease that is over says stop"
    );
}

#[tokio::test]
async fn a_waiting_lease_gets_the_next_submission() {
    let folder = tempdir().unwrap();
    let store = Arc::new(open(folder.path()));
    let waiting = tokio::spawn({
        let store = Arc::clone(&store);
        async move { store.lease().await.unwrap() }
    });
    written(&store).await;
    submit(&store, "job_a").await.unwrap();
    assert_eq!(waiting.await.unwrap().job_id, "job_a");
}

#[tokio::test]
async fn a_job_is_leased_to_one_of_many() {
    let folder = tempdir().unwrap();
    let store = Arc::new(open(folder.path()));
    let leases: Vec<_> = (0..40)
        .map(|_| {
            let store = Arc::clone(&store);
            tokio::spawn(async move { store.lease().await.unwrap().job_id })
        })
        .collect();
    let mut expected = Vec::new();
    for number in 0..40 {
        let id = format!("job_{number:02}");
        submit(&store, &id).await.unwrap();
        expected.push(id);
    }
    let mut leased = Vec::new();
    for lease in leases {
        leased.push(lease.await.unwrap());
    }
    leased.sort();
    assert_eq!(leased, expected);
}

#[tokio::test]
async fn a_dropped_lease_call_leases_nothing() {
    let folder = tempdir().unwrap();
    let store = open(folder.path());
    let mut context = Context::from_waker(Waker::noop());

    // Given up while it waits.
    let mut waiting = store.lease();
    assert!(waiting.as_mut().poll(&mut context).is_pending());
    written(&store).await;
    drop(waiting);
    submit(&store, "job_a").await.unwrap();
    assert_eq!(
        store.get("job_a").await.unwrap().unwrap().status,
        Status::Queued
    );

    // Given up when the answer is in flight but not yet taken. The writer is held up meanwhile, so that it cannot
    // answer before the call has begun to wait.
    let (open_gate, gate) = mpsc::channel::<()>();
    let wait_at_gate = move |_: u32| {
        gate.recv().unwrap();
        Vec::new()
    };
    let mut held_up = store.submit(job("job_b"), Box::new(wait_at_gate));
    assert!(held_up.as_mut().poll(&mut context).is_pending());
    let mut answered = store.lease();
    assert!(answered.as_mut().poll(&mut context).is_pending());
    open_gate.send(()).unwrap();
    held_up.await.unwrap();
    written(&store).await;
    assert_eq!(
        store.get("job_a").await.unwrap().unwrap().status,
        Status::Running
    );
    drop(answered);
    written(&store).await;
    let record = store.get("job_a").await.unwrap().unwrap();
    assert_eq!(
        (
            record.status,
            record.attempt,
            record.started_at_ms,
            record.position
        ),
        (Status::Queued, 0, None, Some(1))
    );

    let lease = store.lease().await.unwrap();
    assert_eq!((lease.job_id.as_str(), lease.attempt), ("job_a", 1));
}

#[tokio::test]
async fn a_released_job_keeps_its_place_and_fences_the_attempt_that_gave_it_up() {
    let folder = tempdir().unwrap();
    let store = open(folder.path());
    submit(&store, "job_a").await.unwrap();
    submit(&store, "job_b").await.unwrap();
    let old = store.lease().await.unwrap();
    store.put_image(&old, 0, b"old".to_vec()).await.unwrap();
    store.release(&old).await.unwrap();
    assert_eq!(store.get("job_a").await.unwrap().unwrap().position, Some(1));

    let new = store.lease().await.unwrap();
    assert_eq!((new.job_id.as_str(), new.attempt), ("job_a", 2));
    assert!(*store.cancel_requested(&old).borrow());
    assert!(!*store.cancel_requested(&new).borrow());
    assert_lease_lost(store.append(&old, vec![logged("late")]).await, &old);
    assert_lease_lost(store.put_image(&old, 0, b"late".to_vec()).await, &old);
    assert_lease_lost(store.release(&old).await, &old);
    let finished = store
        .finish(&old, Ending::Succeeded, Vec::new(), b"late".to_vec())
        .await;
    assert_lease_lost(finished, &old);

    // What the first attempt announced stays to be had until the second replaces it.
    assert_eq!(
        store.image("job_a", 0).await.unwrap().as_deref(),
        Some(b"old".as_slice())
    );
    store.put_image(&new, 0, b"new".to_vec()).await.unwrap();
    assert_eq!(
        store.image("job_a", 0).await.unwrap().as_deref(),
        Some(b"new".as_slice())
    );
    assert_eq!(log_text(&store, "job_a").await, ["queued 1"]);
    let files = fs::read_dir(folder.path().join("images/job_a"))
        .unwrap()
        .count();
    assert_eq!(files, 1, "neither the replaced nor the late file stays");
}

#[tokio::test]
async fn released_attempts_do_not_count_against_the_most_a_job_may_have() {
    let folder = tempdir().unwrap();
    let store = open(folder.path());
    submit(&store, "job_a").await.unwrap();
    for _ in 0..5 {
        let lease = store.lease().await.unwrap();
        store.release(&lease).await.unwrap();
    }
    store.lease().await.unwrap();
    drop(store);
    let store = open(folder.path());
    assert_eq!(
        store.get("job_a").await.unwrap().unwrap().status,
        Status::Queued
    );
}

#[tokio::test]
async fn cancelling_ends_a_queued_job_and_asks_a_running_one() {
    let folder = tempdir().unwrap();
    let store = open(folder.path());
    let missing = store.cancel("job_a", Vec::new()).await;
    assert!(matches!(missing, Err(Error::NotFound(_))), "{missing:?}");

    submit(&store, "job_a").await.unwrap();
    let cancelled = store.cancel("job_a", b"cancelled".to_vec()).await.unwrap();
    assert_eq!(cancelled, Cancellation::Cancelled);
    assert_eq!(
        store.get("job_a").await.unwrap().unwrap().status,
        Status::Cancelled
    );
    assert_eq!(log_text(&store, "job_a").await, ["queued 1", "cancelled"]);
    assert!(log(&store, "job_a").await[1].is_final);

    submit(&store, "job_b").await.unwrap();
    let lease = store.lease().await.unwrap();
    assert_eq!(lease.job_id, "job_b", "a cancelled job never starts");
    let mut stop = store.cancel_requested(&lease);
    assert!(!*stop.borrow());
    let asked = store.cancel("job_b", b"unused".to_vec()).await.unwrap();
    assert_eq!(asked, Cancellation::Requested);
    stop.wait_for(|stop| *stop).await.unwrap();
    assert_eq!(
        store.get("job_b").await.unwrap().unwrap().status,
        Status::Running
    );
    store
        .finish(&lease, Ending::Cancelled, Vec::new(), b"cancelled".to_vec())
        .await
        .unwrap();
    assert_eq!(
        store.get("job_b").await.unwrap().unwrap().status,
        Status::Cancelled
    );

    let before = store.get("job_b").await.unwrap();
    let late = store.cancel("job_b", b"again".to_vec()).await.unwrap();
    assert_eq!(late, Cancellation::AlreadyFinished);
    assert_eq!(store.get("job_b").await.unwrap(), before);
    assert_eq!(log_text(&store, "job_b").await, ["queued 1", "cancelled"]);
}

#[tokio::test]
async fn a_cancellation_outlives_the_attempt_that_did_not_carry_it_out() {
    let folder = tempdir().unwrap();
    let store = open(folder.path());
    submit(&store, "job_a").await.unwrap();
    store.lease().await.unwrap();
    store.cancel("job_a", Vec::new()).await.unwrap();
    drop(store);
    let store = open(folder.path());
    let lease = store.lease().await.unwrap();
    assert_eq!(lease.attempt, 2);
    assert!(*store.cancel_requested(&lease).borrow());
}

#[tokio::test]
async fn jobs_that_ran_when_the_process_ended_run_again_until_they_have_had_their_attempts() {
    let folder = tempdir().unwrap();
    let clock = Arc::new(Watch::default());
    let mut last_seq = 0;
    for attempt in 1..=3 {
        clock.set(i64::from(attempt));
        let store = open_at(folder.path(), &clock);
        if attempt == 1 {
            submit(&store, "job_a").await.unwrap();
            submit(&store, "job_b").await.unwrap();
        }
        let lease = store.lease().await.unwrap();
        assert_eq!((lease.job_id.as_str(), lease.attempt), ("job_a", attempt));
        store
            .append(&lease, vec![logged(format!("started {attempt}"))])
            .await
            .unwrap();
        let seq = log(&store, "job_a").await.last().unwrap().seq;
        assert!(seq > last_seq);
        last_seq = seq;
    }
    clock.set(4);
    let store = open_at(folder.path(), &clock);
    let record = store.get("job_a").await.unwrap().unwrap();
    assert_eq!((record.status, record.attempt), (Status::Failed, 3));
    assert_eq!(
        (record.started_at_ms, record.finished_at_ms),
        (Some(1), Some(4))
    );
    assert_eq!(record.outcome.as_deref(), Some(EXHAUSTED_OUTCOME));
    let events = log(&store, "job_a").await;
    let payloads: Vec<_> = events
        .iter()
        .map(|event| event.payload.as_slice())
        .collect();
    assert_eq!(
        payloads,
        [
            b"queued 1".as_slice(),
            b"started 1",
            b"started 2",
            b"started 3",
            EXHAUSTED_EVENT
        ]
    );
    let last = events.last().unwrap();
    assert!(last.is_final && last.seq > last_seq);
    assert_eq!(store.queued(10).await.unwrap(), [("job_b".to_owned(), 1)]);
}

#[tokio::test]
async fn history_is_replayed_after_a_number_and_leaves_out_ephemeral_events() {
    let folder = tempdir().unwrap();
    let store = open(folder.path());
    submit(&store, "job_a").await.unwrap();
    let lease = store.lease().await.unwrap();
    let mut live = store.subscribe("job_a").await.unwrap();
    store
        .append(
            &lease,
            vec![logged("one"), ephemeral("preview"), logged("two")],
        )
        .await
        .unwrap();
    store
        .append(&lease, vec![ephemeral("preview"), ephemeral("preview")])
        .await
        .unwrap();
    store.append(&lease, vec![logged("three")]).await.unwrap();

    let numbers = |events: &[Event]| events.iter().map(|event| event.seq).collect::<Vec<_>>();
    let read = |after, limit| store.events_after("job_a", after, limit);
    assert_eq!(numbers(&read(0, 100).await.unwrap()), [1, 2, 4, 7]);
    assert_eq!(numbers(&read(2, 100).await.unwrap()), [4, 7]);
    assert_eq!(numbers(&read(3, 1).await.unwrap()), [4]);
    assert_eq!(numbers(&read(7, 100).await.unwrap()), [0; 0]);
    assert_eq!(numbers(&read(u64::MAX, 100).await.unwrap()), [0; 0]);
    assert_eq!(store.events_after("job_b", 0, 100).await.unwrap(), []);

    let mut heard = Vec::new();
    for _ in 0..6 {
        heard.push(live.recv().await.unwrap());
    }
    assert_eq!(numbers(&heard), [2, 3, 4, 5, 6, 7]);
    let ephemeral_seqs: Vec<_> = heard
        .iter()
        .filter(|event| event.durability == Durability::Ephemeral)
        .map(|event| event.seq)
        .collect();
    assert_eq!(ephemeral_seqs, [3, 5, 6]);
}

#[tokio::test]
async fn no_number_is_given_twice_across_a_restart_ephemeral_ones_included() {
    let folder = tempdir().unwrap();
    let store = open(folder.path());
    submit(&store, "job_a").await.unwrap();
    let lease = store.lease().await.unwrap();
    let mut live = store.subscribe("job_a").await.unwrap();
    store
        .append(&lease, vec![ephemeral("preview"), ephemeral("preview")])
        .await
        .unwrap();
    live.recv().await.unwrap();
    let last = live.recv().await.unwrap().seq;
    drop(store);

    let store = open(folder.path());
    let lease = store.lease().await.unwrap();
    store.append(&lease, vec![logged("again")]).await.unwrap();
    assert!(log(&store, "job_a").await.last().unwrap().seq > last);
}

#[tokio::test]
async fn no_number_that_was_seen_comes_again_after_a_loss_of_power() {
    let folder = tempdir().unwrap();
    let store = open(folder.path());
    submit(&store, "job_a").await.unwrap();
    let lease = store.lease().await.unwrap();
    // What the disk holds for certain: progress after this is not synced.
    let on_disk = tempdir().unwrap();
    for file in ["jobs.sqlite3", "jobs.sqlite3-wal"] {
        fs::copy(folder.path().join(file), on_disk.path().join(file)).unwrap();
    }
    store
        .append(
            &lease,
            vec![logged("seen"), ephemeral("seen"), logged("seen")],
        )
        .await
        .unwrap();
    let last_seen = log(&store, "job_a").await.last().unwrap().seq;

    let store = open(on_disk.path());
    assert_eq!(
        log_text(&store, "job_a").await,
        ["queued 1"],
        "the loss took nothing"
    );
    let lease = store.lease().await.unwrap();
    store.append(&lease, vec![logged("new")]).await.unwrap();
    assert!(log(&store, "job_a").await.last().unwrap().seq > last_seen);
}

#[tokio::test]
async fn a_live_channel_closes_with_the_last_event_and_for_jobs_that_have_ended() {
    let folder = tempdir().unwrap();
    let store = open(folder.path());
    let missing = store.subscribe("job_a").await;
    assert!(matches!(missing, Err(Error::NotFound(_))), "{missing:?}");
    submit(&store, "job_a").await.unwrap();
    let lease = store.lease().await.unwrap();
    let mut live = store.subscribe("job_a").await.unwrap();
    // An append of nothing must not be taken for silence.
    store.append(&lease, Vec::new()).await.unwrap();
    store
        .finish(&lease, Ending::Failed, Vec::new(), b"error".to_vec())
        .await
        .unwrap();
    let last = live.recv().await.unwrap();
    assert!(last.is_final);
    assert_eq!(live.recv().await, Err(RecvError::Closed));
    let mut late = store.subscribe("job_a").await.unwrap();
    assert_eq!(late.recv().await, Err(RecvError::Closed));
}

#[tokio::test]
async fn queued_jobs_can_be_told_their_new_place_and_others_cannot() {
    let folder = tempdir().unwrap();
    let store = open(folder.path());
    submit(&store, "job_a").await.unwrap();
    let mut live = store.subscribe("job_a").await.unwrap();
    store
        .append_queued("job_a", logged("queued again"))
        .await
        .unwrap();
    assert_eq!(live.recv().await.unwrap().payload, b"queued again");
    store.lease().await.unwrap();
    store
        .append_queued("job_a", logged("too late"))
        .await
        .unwrap();
    assert_eq!(
        log_text(&store, "job_a").await,
        ["queued 1", "queued again"]
    );
}

/// What a stream does: subscribe, read the log, join by number; after falling behind, read the log again.
async fn watch(store: Arc<SqliteStore>, job_id: &str) -> Vec<u64> {
    let mut live = store.subscribe(job_id).await.unwrap();
    let mut seen = Vec::new();
    let mut last = 0;
    let mut from_log = true;
    loop {
        let events = if from_log {
            from_log = false;
            store.events_after(job_id, last, u32::MAX).await.unwrap()
        } else {
            match live.recv().await {
                Ok(event) => vec![event],
                Err(RecvError::Lagged(_)) => {
                    from_log = true;
                    continue;
                }
                Err(RecvError::Closed) => panic!("closed before the last event"),
            }
        };
        for event in events {
            if event.seq <= last {
                continue;
            }
            last = event.seq;
            if event.durability == Durability::Logged {
                seen.push(event.seq);
            }
            if event.is_final {
                return seen;
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_reader_that_comes_at_any_moment_sees_each_logged_event_once() {
    let folder = tempdir().unwrap();
    let store = Arc::new(
        SqliteStore::open(SqliteOptions {
            live_events_max: 16,
            ..options(folder.path())
        })
        .unwrap(),
    );
    submit(&store, "job_a").await.unwrap();
    let lease = store.lease().await.unwrap();
    let mut readers = Vec::new();
    for step in 0..200 {
        let reader = Arc::clone(&store);
        readers.push(tokio::spawn(async move { watch(reader, "job_a").await }));
        let events = if step % 3 == 0 {
            vec![ephemeral("preview"), logged("progress")]
        } else {
            vec![logged("progress"), logged("image")]
        };
        store.append(&lease, events).await.unwrap();
    }
    store
        .finish(&lease, Ending::Succeeded, Vec::new(), b"complete".to_vec())
        .await
        .unwrap();
    let expected: Vec<_> = log(&store, "job_a")
        .await
        .iter()
        .map(|event| event.seq)
        .collect();
    assert_eq!(expected.len(), 1 + 200 + 133 + 1);
    for reader in readers {
        assert_eq!(reader.await.unwrap(), expected);
    }
}

#[tokio::test]
async fn a_listener_that_falls_behind_is_told_and_the_log_has_what_it_missed() {
    let folder = tempdir().unwrap();
    let store = SqliteStore::open(SqliteOptions {
        live_events_max: 4,
        ..options(folder.path())
    })
    .unwrap();
    submit(&store, "job_a").await.unwrap();
    let lease = store.lease().await.unwrap();
    let mut live = store.subscribe("job_a").await.unwrap();
    store
        .append(&lease, (0..10).map(|_| logged("progress")).collect())
        .await
        .unwrap();
    assert_eq!(live.recv().await, Err(RecvError::Lagged(6)));
    assert_eq!(live.recv().await.unwrap().seq, 8);
    assert_eq!(store.events_after("job_a", 1, 100).await.unwrap().len(), 10);
}

#[tokio::test]
async fn images_are_seen_whole_and_survive_a_restart() {
    let folder = tempdir().unwrap();
    let store = open(folder.path());
    submit(&store, "job_a").await.unwrap();
    let lease = store.lease().await.unwrap();
    assert_eq!(store.image("job_a", 0).await.unwrap(), None);
    let picture: Vec<u8> = (0..300_000_u32).map(|at| at.to_le_bytes()[0]).collect();
    store.put_image(&lease, 0, picture.clone()).await.unwrap();
    store
        .put_image(&lease, 1, b"second".to_vec())
        .await
        .unwrap();
    assert_eq!(
        store.image("job_a", 0).await.unwrap(),
        Some(picture.clone())
    );
    store
        .finish(&lease, Ending::Succeeded, Vec::new(), Vec::new())
        .await
        .unwrap();
    assert_lease_lost(store.put_image(&lease, 0, b"late".to_vec()).await, &lease);
    drop(store);
    let store = open(folder.path());
    assert_eq!(store.image("job_a", 0).await.unwrap(), Some(picture));
    assert_eq!(
        store.image("job_a", 1).await.unwrap().as_deref(),
        Some(b"second".as_slice())
    );
    assert_eq!(store.image("job_a", 2).await.unwrap(), None);
}

#[tokio::test]
async fn a_late_image_after_a_restart_does_not_touch_the_one_that_was_announced() {
    let folder = tempdir().unwrap();
    let store = open(folder.path());
    submit(&store, "job_a").await.unwrap();
    let lease = store.lease().await.unwrap();
    store
        .put_image(&lease, 0, b"announced".to_vec())
        .await
        .unwrap();
    drop(store);
    let store = open(folder.path());
    assert_lease_lost(store.put_image(&lease, 0, b"late".to_vec()).await, &lease);
    let image = store.image("job_a", 0).await.unwrap();
    assert_eq!(image.as_deref(), Some(b"announced".as_slice()));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn an_image_that_is_replaced_while_it_is_read_is_one_or_the_other() {
    let folder = tempdir().unwrap();
    let store = Arc::new(open(folder.path()));
    submit(&store, "job_a").await.unwrap();
    let lease = store.lease().await.unwrap();
    store.put_image(&lease, 0, vec![0; 50_000]).await.unwrap();
    let readers: Vec<_> = (0..4)
        .map(|_| {
            let store = Arc::clone(&store);
            tokio::spawn(async move {
                loop {
                    let bytes = store.image("job_a", 0).await.unwrap().unwrap();
                    assert_eq!(bytes.len(), 50_000);
                    assert!(
                        bytes.iter().all(|byte| *byte == bytes[0]),
                        "two images in one"
                    );
                    if bytes[0] == 30 {
                        break;
                    }
                }
            })
        })
        .collect();
    for shade in 1..=30 {
        store
            .put_image(&lease, 0, vec![shade; 50_000])
            .await
            .unwrap();
    }
    for reader in readers {
        reader.await.unwrap();
    }
}

#[tokio::test]
async fn files_that_no_row_names_are_gone_after_opening() {
    let folder = tempdir().unwrap();
    let store = open(folder.path());
    submit(&store, "job_a").await.unwrap();
    let lease = store.lease().await.unwrap();
    store.put_image(&lease, 0, b"kept".to_vec()).await.unwrap();
    drop(store);
    let images = folder.path().join("images");
    fs::create_dir(images.join("job_gone")).unwrap();
    let torn = ["stray", "job_gone/1-0-0", "job_a/1-1-7.part", "job_a/9-9-9"];
    for path in torn {
        fs::write(images.join(path), b"torn").unwrap();
    }
    let store = open(folder.path());
    for path in torn {
        assert!(!images.join(path).exists(), "{path}");
    }
    assert!(!images.join("job_gone").exists());
    assert_eq!(
        store.image("job_a", 0).await.unwrap().as_deref(),
        Some(b"kept".as_slice())
    );
}

#[tokio::test]
async fn a_second_opener_is_refused_in_words_until_the_first_is_gone() {
    let folder = tempdir().unwrap();
    let store = open(folder.path());
    let refused = SqliteStore::open(options(folder.path())).unwrap_err();
    assert!(matches!(refused, Error::InUse(_)), "{refused}");
    assert!(
        refused
            .to_string()
            .starts_with("another process uses the data folder"),
        "{refused}"
    );
    drop(store);
    open(folder.path());
}

#[tokio::test]
async fn a_database_of_a_later_version_is_refused_in_words() {
    let folder = tempdir().unwrap();
    drop(open(folder.path()));
    let connection = rusqlite::Connection::open(folder.path().join("jobs.sqlite3")).unwrap();
    connection.pragma_update(None, "user_version", 99).unwrap();
    drop(connection);
    let refused = SqliteStore::open(options(folder.path())).unwrap_err();
    assert!(
        matches!(refused, Error::TooNew { found: 99, .. }),
        "{refused}"
    );
}

#[tokio::test]
async fn a_corrupt_database_is_an_error_and_not_a_panic() {
    let folder = tempdir().unwrap();
    let path = folder.path().join("jobs.sqlite3");
    fs::write(&path, vec![0xa5; 10_000]).unwrap();
    let refused = SqliteStore::open(options(folder.path())).unwrap_err();
    assert!(matches!(refused, Error::Database(_)), "{refused}");

    fs::remove_file(&path).unwrap();
    let store = open(folder.path());
    submit(&store, "job_a").await.unwrap();
    store.close().await;
    drop(store);
    let mut bytes = fs::read(&path).unwrap();
    bytes[4096..].fill(0xa5);
    fs::write(&path, bytes).unwrap();
    let refused = SqliteStore::open(options(folder.path())).unwrap_err();
    assert!(matches!(refused, Error::Database(_)), "{refused}");
}

#[tokio::test]
async fn closing_ends_waiting_leases_and_lets_holders_finish() {
    let folder = tempdir().unwrap();
    let store = Arc::new(open(folder.path()));
    submit(&store, "job_a").await.unwrap();
    let lease = store.lease().await.unwrap();
    let waiting = tokio::spawn({
        let store = Arc::clone(&store);
        async move { store.lease().await }
    });
    written(&store).await;
    store.close().await;
    assert!(matches!(waiting.await.unwrap(), Err(Error::Closed)));
    assert!(matches!(store.lease().await, Err(Error::Closed)));
    assert!(matches!(submit(&store, "job_b").await, Err(Error::Closed)));
    store.release(&lease).await.unwrap();
    assert_eq!(
        store.get("job_a").await.unwrap().unwrap().status,
        Status::Queued
    );
}

#[tokio::test]
async fn a_panic_in_what_the_caller_gave_fails_that_call_alone() {
    let folder = tempdir().unwrap();
    let store = open(folder.path());
    let failed = store
        .submit(job("job_a"), Box::new(|_| panic!("the caller's own")))
        .await;
    assert!(failed.is_err());
    assert_eq!(store.get("job_a").await.unwrap(), None);
    submit(&store, "job_a").await.unwrap();
}

#[tokio::test]
async fn pruning_forgets_finished_jobs_by_age_and_by_number() {
    let folder = tempdir().unwrap();
    let clock = Arc::new(Watch::default());
    let store = open_at(folder.path(), &clock);
    for at in 1..=6 {
        clock.set(at * 1_000);
        submit(&store, &format!("job_{at}")).await.unwrap();
        let lease = store.lease().await.unwrap();
        store.put_image(&lease, 0, vec![1]).await.unwrap();
        store
            .finish(&lease, Ending::Succeeded, Vec::new(), Vec::new())
            .await
            .unwrap();
    }
    submit(&store, "job_waiting").await.unwrap();
    let left = async || {
        let mut left = Vec::new();
        for at in 1..=6 {
            let id = format!("job_{at}");
            let exists = store.get(&id).await.unwrap().is_some();
            assert_eq!(!log(&store, &id).await.is_empty(), exists);
            assert_eq!(store.image(&id, 0).await.unwrap().is_some(), exists);
            assert_eq!(folder.path().join("images").join(&id).exists(), exists);
            if exists {
                left.push(at);
            }
        }
        left
    };
    clock.set(7_000);
    assert_eq!(store.prune(10_000, 100).await.unwrap(), 0);
    assert_eq!(
        store.prune(5_000, 100).await.unwrap(),
        1,
        "older than, not as old as"
    );
    assert_eq!(left().await, [2, 3, 4, 5, 6]);
    assert_eq!(store.prune(10_000, 3).await.unwrap(), 2);
    assert_eq!(left().await, [4, 5, 6]);
    assert_eq!(store.prune(0, 0).await.unwrap(), 3);
    assert_eq!(left().await, [0; 0]);
    assert_eq!(
        store.queued(10).await.unwrap(),
        [("job_waiting".to_owned(), 1)]
    );
}

#[test]
fn the_database_itself_refuses_to_change_a_job_that_has_ended() {
    let folder = tempdir().unwrap();
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(async {
        let store = open(folder.path());
        submit(&store, "job_a").await.unwrap();
        store.cancel("job_a", Vec::new()).await.unwrap();
    });
    let connection = rusqlite::Connection::open(folder.path().join("jobs.sqlite3")).unwrap();
    let changed = connection.execute("UPDATE jobs SET status = 0, finished_at_ms = NULL", []);
    assert!(changed.unwrap_err().to_string().contains("does not change"));
}
