-- Times are Unix milliseconds. Status: 0 queued, 1 running, 2 succeeded, 3 failed, 4 cancelled.
CREATE TABLE jobs (
    key              INTEGER PRIMARY KEY AUTOINCREMENT, -- order of acceptance, never used again
    id               TEXT    NOT NULL UNIQUE,
    status           INTEGER NOT NULL DEFAULT 0 CHECK (status BETWEEN 0 AND 4),
    attempt          INTEGER NOT NULL DEFAULT 0,        -- grows with every lease: what fences late writers
    released         INTEGER NOT NULL DEFAULT 0,        -- attempts given back, which attempts_max does not count
    last_seq         INTEGER NOT NULL DEFAULT 0,        -- of logged and ephemeral events
    cancel_requested INTEGER NOT NULL DEFAULT 0,
    created_at_ms    INTEGER NOT NULL,
    started_at_ms    INTEGER,
    finished_at_ms   INTEGER,
    outcome          BLOB,
    CHECK ((status >= 2) = (finished_at_ms IS NOT NULL))
) STRICT;
CREATE INDEX jobs_by_status ON jobs (status, key);
CREATE INDEX jobs_by_finish ON jobs (finished_at_ms, key) WHERE finished_at_ms IS NOT NULL;

-- Beside the job, because SQLite writes a whole row again for every column that changes, and a payload may be
-- megabytes.
CREATE TABLE payloads (
    job     INTEGER PRIMARY KEY REFERENCES jobs (key) ON DELETE CASCADE,
    payload BLOB NOT NULL
) STRICT;

CREATE TABLE events (
    job      INTEGER NOT NULL REFERENCES jobs (key) ON DELETE CASCADE,
    seq      INTEGER NOT NULL,
    is_final INTEGER NOT NULL,
    payload  BLOB    NOT NULL,
    PRIMARY KEY (job, seq)
) STRICT;

CREATE TABLE images (
    job     INTEGER NOT NULL REFERENCES jobs (key) ON DELETE CASCADE,
    "index" INTEGER NOT NULL,
    file    TEXT    NOT NULL, -- under images/<job id>/
    PRIMARY KEY (job, "index")
) STRICT;

-- The promise that matters most is kept by the database as well as by the code.
CREATE TRIGGER jobs_end_once BEFORE UPDATE ON jobs WHEN OLD.status >= 2
BEGIN
    SELECT RAISE(ABORT, 'a job that has ended does not change');
END;
