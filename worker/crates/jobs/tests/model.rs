//! Random sequences of everything a caller can do, against a model that is written as plainly as possible.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic)]

mod common;

use common::{EXHAUSTED_EVENT, EXHAUSTED_OUTCOME, ephemeral, log, logged, open, submit};
use proptest::{
    prelude::*,
    sample::Index,
    test_runner::{Config, TestCaseError},
};
use scumble_jobs::{
    Cancellation, Ending, Error, JobStore as _, Lease, Status, sqlite::SqliteStore,
};
use std::task::{Context, Poll, Waker};
use tempfile::tempdir;

const ATTEMPTS_MAX: u32 = 3;

#[derive(Debug, Clone)]
enum Op {
    Submit,
    Lease,
    /// Given up before it is answered (false) or when the answer is in flight (true).
    DropLease(bool),
    Append(Index),
    AppendEphemeral(Index),
    AppendQueued(Index),
    PutImage(Index, u8),
    Finish(Index, Ending),
    Release(Index),
    Cancel(Index),
    Reopen,
}

fn op() -> impl Strategy<Value = Op> {
    let ending = prop_oneof![
        Just(Ending::Succeeded),
        Just(Ending::Failed),
        Just(Ending::Cancelled)
    ];
    prop_oneof![
        4 => Just(Op::Submit),
        6 => Just(Op::Lease),
        1 => any::<bool>().prop_map(Op::DropLease),
        4 => any::<Index>().prop_map(Op::Append),
        2 => any::<Index>().prop_map(Op::AppendEphemeral),
        2 => any::<Index>().prop_map(Op::AppendQueued),
        3 => (any::<Index>(), any::<u8>()).prop_map(|(lease, shade)| Op::PutImage(lease, shade)),
        4 => (any::<Index>(), ending).prop_map(|(lease, ending)| Op::Finish(lease, ending)),
        2 => any::<Index>().prop_map(Op::Release),
        3 => any::<Index>().prop_map(Op::Cancel),
        1 => Just(Op::Reopen),
    ]
}

#[derive(Debug, Clone)]
struct ModelJob {
    id: String,
    status: Status,
    attempt: u32,
    released: u32,
    cancel_requested: bool,
    outcome: Option<Vec<u8>>,
    log: Vec<Vec<u8>>,
    image: Option<Vec<u8>>,
}

#[derive(Debug, Default)]
struct Model {
    jobs: Vec<ModelJob>,
    leases: Vec<Lease>,
}

impl Model {
    fn has_queued(&self) -> bool {
        self.jobs.iter().any(|job| job.status == Status::Queued)
    }

    /// The job of a lease that still holds.
    fn held(&mut self, lease: &Lease) -> Option<&mut ModelJob> {
        self.jobs.iter_mut().find(|job| {
            job.id == lease.job_id && job.status == Status::Running && job.attempt == lease.attempt
        })
    }

    fn picked(&self, index: Index) -> Option<Lease> {
        (!self.leases.is_empty()).then(|| index.get(&self.leases).clone())
    }

    fn reopen(&mut self) {
        for job in self
            .jobs
            .iter_mut()
            .filter(|job| job.status == Status::Running)
        {
            if job.attempt - job.released < ATTEMPTS_MAX {
                job.status = Status::Queued;
            } else {
                job.status = Status::Failed;
                job.outcome = Some(EXHAUSTED_OUTCOME.to_vec());
                job.log.push(EXHAUSTED_EVENT.to_vec());
            }
        }
    }
}

fn agree(result: Result<(), Error>, expected: bool) -> Result<(), TestCaseError> {
    match (result, expected) {
        (Ok(()), true) | (Err(Error::LeaseLost { .. }), false) => Ok(()),
        (result, _) => Err(TestCaseError::fail(format!(
            "allowed: {expected}, got {result:?}"
        ))),
    }
}

fn leased(store: &SqliteStore, model: &mut Model, lease: Lease) -> Result<(), TestCaseError> {
    let oldest = model
        .jobs
        .iter_mut()
        .find(|job| job.status == Status::Queued);
    let job = oldest.ok_or_else(|| TestCaseError::fail("a lease of nothing"))?;
    job.status = Status::Running;
    job.attempt += 1;
    prop_assert_eq!((&lease.job_id, lease.attempt), (&job.id, job.attempt));
    prop_assert_eq!(
        *store.cancel_requested(&lease).borrow(),
        job.cancel_requested
    );
    model.leases.push(lease);
    Ok(())
}

async fn apply(store: &SqliteStore, model: &mut Model, op: Op) -> Result<(), TestCaseError> {
    match op {
        Op::Submit => {
            let id = format!("job_{}", model.jobs.len());
            let position = submit(store, &id).await.unwrap().position.unwrap();
            model.jobs.push(ModelJob {
                id,
                status: Status::Queued,
                attempt: 0,
                released: 0,
                cancel_requested: false,
                outcome: None,
                log: vec![format!("queued {position}").into_bytes()],
                image: None,
            });
        }
        Op::Lease => {
            if model.has_queued() {
                let lease = store.lease().await.unwrap();
                return leased(store, model, lease);
            }
        }
        Op::DropLease(answered) => {
            if model.has_queued() || !answered {
                let mut call = store.lease();
                let poll = call.as_mut().poll(&mut Context::from_waker(Waker::noop()));
                // The writer may be quicker than the call, which then was not given up in time.
                if let Poll::Ready(lease) = poll {
                    return leased(store, model, lease.unwrap());
                }
                if answered {
                    store.append_queued("job_nobody", logged("")).await.unwrap();
                }
                drop(call);
                store.append_queued("job_nobody", logged("")).await.unwrap();
            }
        }
        Op::Append(index) | Op::AppendEphemeral(index) => {
            if let Some(lease) = model.picked(index) {
                let text = format!("progress of attempt {}", lease.attempt).into_bytes();
                let is_logged = matches!(op, Op::Append(_));
                let event = if is_logged {
                    logged(text.clone())
                } else {
                    ephemeral(text.clone())
                };
                let job = model.held(&lease);
                agree(store.append(&lease, vec![event]).await, job.is_some())?;
                if let (Some(job), true) = (job, is_logged) {
                    job.log.push(text);
                }
            }
        }
        Op::AppendQueued(index) => {
            if !model.jobs.is_empty() {
                let at = index.index(model.jobs.len());
                let job = &mut model.jobs[at];
                store.append_queued(&job.id, logged("moved")).await.unwrap();
                if job.status == Status::Queued {
                    job.log.push(b"moved".to_vec());
                }
            }
        }
        Op::PutImage(index, shade) => {
            if let Some(lease) = model.picked(index) {
                let bytes = vec![shade; 100 + usize::from(shade)];
                let job = model.held(&lease);
                agree(
                    store.put_image(&lease, 0, bytes.clone()).await,
                    job.is_some(),
                )?;
                if let Some(job) = job {
                    job.image = Some(bytes);
                }
            }
        }
        Op::Finish(index, ending) => {
            if let Some(lease) = model.picked(index) {
                let outcome = format!("{ending:?} by {}", lease.attempt).into_bytes();
                let job = model.held(&lease);
                let result = store
                    .finish(&lease, ending, outcome.clone(), b"last".to_vec())
                    .await;
                agree(result, job.is_some())?;
                if let Some(job) = job {
                    job.outcome = Some(outcome);
                    job.log.push(b"last".to_vec());
                    job.status = match ending {
                        Ending::Succeeded => Status::Succeeded,
                        Ending::Failed => Status::Failed,
                        Ending::Cancelled => Status::Cancelled,
                    };
                }
            }
        }
        Op::Release(index) => {
            if let Some(lease) = model.picked(index) {
                let job = model.held(&lease);
                agree(store.release(&lease).await, job.is_some())?;
                if let Some(job) = job {
                    job.status = Status::Queued;
                    job.released += 1;
                }
            }
        }
        Op::Cancel(index) => {
            if !model.jobs.is_empty() {
                let at = index.index(model.jobs.len());
                let job = &mut model.jobs[at];
                let expected = match job.status {
                    Status::Queued => {
                        job.status = Status::Cancelled;
                        job.log.push(b"cancelled".to_vec());
                        Cancellation::Cancelled
                    }
                    Status::Running => {
                        job.cancel_requested = true;
                        Cancellation::Requested
                    }
                    _ => Cancellation::AlreadyFinished,
                };
                let met = store.cancel(&job.id, b"cancelled".to_vec()).await.unwrap();
                prop_assert_eq!(met, expected);
            }
        }
        Op::Reopen => unreachable!("done by the caller, who owns the store"),
    }
    Ok(())
}

async fn compare(store: &SqliteStore, model: &Model) -> Result<(), TestCaseError> {
    let mut queued = Vec::new();
    for job in &model.jobs {
        let record = store.get(&job.id).await.unwrap().unwrap();
        prop_assert_eq!(record.status, job.status, "{}", &job.id);
        prop_assert_eq!(record.attempt, job.attempt, "{}", &job.id);
        prop_assert_eq!(&record.outcome, &job.outcome, "{}", &job.id);
        if job.status == Status::Queued {
            queued.push((job.id.clone(), u32::try_from(queued.len()).unwrap() + 1));
            prop_assert_eq!(
                record.position,
                queued.last().map(|(_, position)| *position)
            );
        } else {
            prop_assert_eq!(record.position, None);
        }
        let ended = record.finished_at_ms.is_some();
        let events = log(store, &job.id).await;
        prop_assert!(events.is_sorted_by(|one, next| one.seq < next.seq));
        let last = events.len() - 1;
        for (at, event) in events.iter().enumerate() {
            prop_assert_eq!(event.is_final, ended && at == last, "{} {}", &job.id, at);
        }
        let payloads: Vec<_> = events.into_iter().map(|event| event.payload).collect();
        prop_assert_eq!(&payloads, &job.log, "{}", &job.id);
        prop_assert_eq!(&store.image(&job.id, 0).await.unwrap(), &job.image);
    }
    prop_assert_eq!(store.queued(u32::MAX).await.unwrap(), queued);
    Ok(())
}

proptest! {
    #![proptest_config(Config { cases: 32, failure_persistence: None, ..Config::default() })]

    #[test]
    fn the_store_does_what_the_model_does_and_no_ended_job_changes(ops in prop::collection::vec(op(), 1..60)) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(async {
            let folder = tempdir().unwrap();
            let mut store = open(folder.path());
            let mut model = Model::default();
            let mut ended: Vec<ModelJob> = Vec::new();
            for op in ops {
                if matches!(op, Op::Reopen) {
                    drop(store);
                    store = open(folder.path());
                    model.reopen();
                } else {
                    apply(&store, &mut model, op).await?;
                }
                for job in &ended {
                    let record = store.get(&job.id).await.unwrap().unwrap();
                    prop_assert_eq!((record.status, &record.outcome), (job.status, &job.outcome));
                }
                ended = model.jobs.iter().filter(|job| !matches!(job.status, Status::Queued | Status::Running)).cloned().collect();
            }
            compare(&store, &model).await
        })?;
    }
}
