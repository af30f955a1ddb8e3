-- What the accounting tools keep: when these tables were looked after, what totals are checked from, and where an
-- operator moved a checkpoint.

CREATE TABLE maintenance (
    only_row    boolean PRIMARY KEY DEFAULT true CHECK (only_row),
    created_at  timestamptz NOT NULL DEFAULT now(),
    last_run_at timestamptz,                -- of the last complete run; null: never
    adopted_at  timestamptz,                -- totals hold calls of a log that was given up then; null: of one log only
    -- The dedupe horizon that keys are kept for. A lower setting holds only when it has lasted, as keys do not come back.
    horizon_days integer NOT NULL DEFAULT 0,
    horizon_at   timestamptz                -- when a program last ran with it
);
INSERT INTO maintenance DEFAULT VALUES;

-- A baseline is all totals and offsets as one snapshot had them. Of its totals only those are written that may have
-- changed since the baseline before it: a row as of a baseline is the newest one not behind it.
CREATE TABLE baselines (
    number   bigint PRIMARY KEY,
    taken_at timestamptz NOT NULL DEFAULT now()
);
CREATE TABLE baseline_offsets (
    baseline     bigint NOT NULL,
    cluster_id   text COLLATE "C" NOT NULL,
    topic_id     text COLLATE "C" NOT NULL,
    partition    integer NOT NULL,
    decided_to   bigint NOT NULL,           -- every record below it is in these totals, or never will be
    first_offset bigint NOT NULL,           -- the counters belong to the offsets from here
    next_offset  bigint NOT NULL,
    counted      bigint NOT NULL,
    uncounted    bigint NOT NULL,           -- duplicates and dead letters
    skipped      bigint NOT NULL,
    PRIMARY KEY (baseline, cluster_id, topic_id, partition)
);
CREATE TABLE baseline_totals (
    totals     text COLLATE "C" NOT NULL,   -- usage_totals, status_totals or outcome_totals
    project_id text COLLATE "C" NOT NULL,
    hour       timestamptz NOT NULL,
    name       text COLLATE "C" NOT NULL,   -- the model, status or outcome
    call_kind  text COLLATE "C" NOT NULL,
    baseline   bigint NOT NULL,
    numbers    numeric[] NOT NULL,          -- in the order of the table's columns; fields that were added later: 0
    PRIMARY KEY (totals, project_id, hour, name, call_kind, baseline)
);

-- Partitions whose checkpoint an operator moved: where their counting began, and how far it had come before.
CREATE TABLE moved_checkpoints (
    cluster_id text COLLATE "C" NOT NULL,
    topic_id   text COLLATE "C" NOT NULL,
    partition  integer NOT NULL,
    begins     bigint NOT NULL,
    decided_to bigint NOT NULL,
    PRIMARY KEY (cluster_id, topic_id, partition)
);

-- How far the log is decided: a record below `decided_to` is counted, or never will be. `begins`: where that starts.
CREATE VIEW decided AS
SELECT cluster_id, topic_id, partition,
       coalesce(moved.begins, checkpoints.first_offset) AS begins,
       greatest(checkpoints.next_offset, moved.decided_to) AS decided_to
FROM checkpoints LEFT JOIN moved_checkpoints AS moved USING (cluster_id, topic_id, partition);
