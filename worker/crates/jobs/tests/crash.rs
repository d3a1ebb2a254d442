//! A process that works the store as hard as it can is killed with SIGKILL again and again; what it was told
//! against what is there afterwards.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic)]

mod common;

use common::{ephemeral, log, log_text, logged, open, submit};
use scumble_jobs::{Ending, JobStore as _, Status, sqlite::SqliteStore};
use std::{
    collections::{BTreeMap, BTreeSet},
    io::{BufRead as _, BufReader, Write as _},
    path::Path,
    process::{Command, Stdio},
    sync::Arc,
};
use tempfile::tempdir;
use tokio::sync::Semaphore;

/// `SCUMBLE_JOBS_KILLS` in the environment asks for more.
const KILLS: u32 = 15;
const SUBMITTERS: u32 = 3;
const WORKERS: u32 = 2;
const UNFINISHED_JOBS_MAX: usize = 12;
/// Names the folder that a child works in, and which run it is.
const CHILD: &str = "SCUMBLE_JOBS_CRASH_CHILD";

/// One write, so that a kill leaves no half a line that parses as another.
fn say(line: String) {
    let mut stdout = std::io::stdout().lock();
    stdout
        .write_all(format!("ledger {line}\n").as_bytes())
        .unwrap();
    stdout.flush().unwrap();
}

fn picture(job_id: &str, attempt: u32) -> Vec<u8> {
    format!("{job_id} {attempt} ").into_bytes().repeat(2_000)
}

async fn submit_for_ever(store: Arc<SqliteStore>, room: Arc<Semaphore>, name: String) {
    for number in 0.. {
        room.acquire().await.unwrap().forget();
        let id = format!("job_{name}_{number}");
        say(format!("trying {id}"));
        submit(&store, &id).await.unwrap();
        say(format!("accepted {id}"));
    }
}

async fn work_for_ever(store: Arc<SqliteStore>, room: Arc<Semaphore>) {
    loop {
        let lease = store.lease().await.unwrap();
        let (id, attempt) = (&lease.job_id, lease.attempt);
        for step in 0..4 {
            let text = format!("step {attempt}.{step}");
            store
                .append(&lease, vec![logged(text), ephemeral("preview")])
                .await
                .unwrap();
            say(format!("logged {id} {attempt}.{step}"));
        }
        store
            .put_image(&lease, 0, picture(id, attempt))
            .await
            .unwrap();
        say(format!("pictured {id} {attempt}"));
        let outcome = format!("outcome of {attempt}").into_bytes();
        store
            .finish(&lease, Ending::Succeeded, outcome, b"complete".to_vec())
            .await
            .unwrap();
        say(format!("finished {id} {attempt}"));
        room.add_permits(1);
    }
}

/// No test of its own: what the child process runs.
#[test]
fn child() {
    let Ok(child) = std::env::var(CHILD) else {
        return;
    };
    let (run, folder) = child.split_once(' ').unwrap();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .build()
        .unwrap();
    runtime.block_on(async {
        let store = Arc::new(open(Path::new(folder)));
        let left = store.queued(u32::MAX).await.unwrap().len();
        let room = Arc::new(Semaphore::new(UNFINISHED_JOBS_MAX.saturating_sub(left)));
        let mut tasks = tokio::task::JoinSet::new();
        for submitter in 0..SUBMITTERS {
            let name = format!("{run}_{submitter}");
            tasks.spawn(submit_for_ever(Arc::clone(&store), Arc::clone(&room), name));
        }
        for _ in 0..WORKERS {
            tasks.spawn(work_for_ever(Arc::clone(&store), Arc::clone(&room)));
        }
        tasks.join_next().await.unwrap().unwrap();
    });
}

#[derive(Debug, Default)]
struct Ledger {
    tried: BTreeSet<String>,
    accepted: BTreeSet<String>,
    logged: BTreeSet<(String, String)>,
    pictured: BTreeMap<String, u32>,
    finished: BTreeMap<String, u32>,
}

impl Ledger {
    fn note(&mut self, line: &str) {
        let words: Vec<_> = line.split(' ').map(str::to_owned).collect();
        match words[..].iter().map(String::as_str).collect::<Vec<_>>()[..] {
            ["trying", _] => drop(self.tried.insert(words[1].clone())),
            ["accepted", _] => drop(self.accepted.insert(words[1].clone())),
            ["logged", _, _] => drop(self.logged.insert((words[1].clone(), words[2].clone()))),
            ["pictured", _, attempt] => {
                self.pictured
                    .insert(words[1].clone(), attempt.parse().unwrap());
            }
            ["finished", _, attempt] => {
                let before = self
                    .finished
                    .insert(words[1].clone(), attempt.parse().unwrap());
                assert_eq!(before, None, "{} finished twice", words[1]);
            }
            _ => panic!("not in the ledger's language: {line:?}"),
        }
    }

    /// Lets a child work until it has said `lines` more things, kills it, and notes all that it said.
    fn run_and_kill(&mut self, run: u32, folder: &Path, lines: u64) {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "child", "--nocapture", "--test-threads=1"])
            .env(CHILD, format!("{run} {}", folder.display()))
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut output = BufReader::new(child.stdout.take().unwrap());
        let mut said = 0;
        let mut killed = false;
        let mut line = String::new();
        loop {
            if said >= lines && !killed {
                child.kill().unwrap();
                killed = true;
            }
            line.clear();
            if output.read_line(&mut line).unwrap() == 0 {
                break;
            }
            // A line without its end was being written when the process died.
            if let Some((_, entry)) = line
                .strip_suffix('\n')
                .and_then(|line| line.split_once("ledger "))
            {
                self.note(entry);
                said += 1;
            }
        }
        assert!(killed, "the child ended by itself after {said} lines");
        assert!(!child.wait().unwrap().success());
    }
}

/// Where to kill: spread over a start, a first job and full work, and the same in every run of the test.
fn kill_after_lines(run: u32) -> u64 {
    (u64::from(run) * 7_919 + 13) * 2_654_435_761 % 4_294_967_296 % 160
}

#[test]
fn killed_at_any_moment_nothing_accepted_is_lost_and_nothing_ends_twice() {
    let folder = tempdir().unwrap();
    let mut ledger = Ledger::default();
    let kills = std::env::var("SCUMBLE_JOBS_KILLS").map_or(KILLS, |kills| kills.parse().unwrap());
    for run in 0..kills {
        ledger.run_and_kill(run, folder.path(), kill_after_lines(run));
    }
    println!(
        "{kills} kills: {} jobs accepted, {} finished, {} images and {} events acknowledged",
        ledger.accepted.len(),
        ledger.finished.len(),
        ledger.pictured.len(),
        ledger.logged.len()
    );
    assert!(
        ledger.accepted.len() > 20,
        "the child did too little: {}",
        ledger.accepted.len()
    );
    assert!(
        ledger.finished.len() > 10,
        "the child did too little: {}",
        ledger.finished.len()
    );
    let runtime = tokio::runtime::Builder::new_current_thread()
        .build()
        .unwrap();
    runtime.block_on(check(&ledger, folder.path()));
}

async fn check(ledger: &Ledger, folder: &Path) {
    let store = open(folder);
    let mut unfinished = 0;
    for id in &ledger.tried {
        let Some(record) = store.get(id).await.unwrap() else {
            assert!(
                !ledger.accepted.contains(id),
                "{id} was accepted and is lost"
            );
            continue;
        };
        assert_ne!(record.status, Status::Running, "{id}");
        if let Some(attempt) = ledger.finished.get(id) {
            assert_eq!(record.status, Status::Succeeded, "{id}");
            assert_eq!(record.attempt, *attempt, "{id}");
            assert_eq!(
                record.outcome,
                Some(format!("outcome of {attempt}").into_bytes()),
                "{id}"
            );
        }
        if record.status == Status::Queued {
            unfinished += 1;
        }
        let events = log(&store, id).await;
        assert!(events.is_sorted_by(|one, next| one.seq < next.seq), "{id}");
        let finals = events.iter().filter(|event| event.is_final).count();
        assert_eq!(finals, usize::from(record.finished_at_ms.is_some()), "{id}");
        assert_eq!(events.last().unwrap().is_final, finals == 1, "{id}");
        if let Some(image) = store.image(id, 0).await.unwrap() {
            let whole = (1..=record.attempt).any(|attempt| image == picture(id, attempt));
            assert!(whole, "{id}: a torn image of {} bytes", image.len());
        } else {
            assert!(!ledger.pictured.contains_key(id), "{id}: its image is lost");
        }
    }
    for (id, step) in &ledger.logged {
        let texts = log_text(&store, id).await;
        let times = texts
            .iter()
            .filter(|text| **text == format!("step {step}"))
            .count();
        assert_eq!(times, 1, "{id}: step {step}");
    }

    // Whatever was left is taken up and ends.
    assert_eq!(store.queued(u32::MAX).await.unwrap().len(), unfinished);
    for _ in 0..unfinished {
        let lease = store.lease().await.unwrap();
        store
            .finish(&lease, Ending::Succeeded, Vec::new(), b"complete".to_vec())
            .await
            .unwrap();
    }
    for id in &ledger.accepted {
        assert!(
            store
                .get(id)
                .await
                .unwrap()
                .unwrap()
                .finished_at_ms
                .is_some(),
            "{id}"
        );
    }
}
