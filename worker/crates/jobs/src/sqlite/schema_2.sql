-- What jobs are given besides their payload: files under blobs/, named by their content, kept while anything here
-- names them.
CREATE TABLE blobs (
    sha256 TEXT    PRIMARY KEY,
    bytes  INTEGER NOT NULL
) STRICT;

CREATE TABLE inputs (
    job    INTEGER NOT NULL REFERENCES jobs (key) ON DELETE CASCADE,
    sha256 TEXT    NOT NULL REFERENCES blobs (sha256),
    PRIMARY KEY (job, sha256)
) STRICT;
CREATE INDEX inputs_by_blob ON inputs (sha256);

CREATE TABLE uploads (
    id            TEXT    PRIMARY KEY,
    sha256        TEXT    NOT NULL REFERENCES blobs (sha256),
    details       BLOB    NOT NULL,
    created_at_ms INTEGER NOT NULL,
    expires_at_ms INTEGER NOT NULL
) STRICT;
CREATE INDEX uploads_by_blob ON uploads (sha256);
CREATE INDEX uploads_by_expiry ON uploads (expires_at_ms);
