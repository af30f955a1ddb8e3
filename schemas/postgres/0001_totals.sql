-- Totals, outcomes, statuses; checkpoints and dedupe keys beside them; the public views.
-- Runs in the first schema of the search_path, without superuser. Text sorts by bytes ("C"): all writers lock in one order.

CREATE TABLE installation (
    only_row       boolean PRIMARY KEY DEFAULT true CHECK (only_row),
    hash_seed      bytea NOT NULL,          -- keys the dedupe hash: no client can forge a collision
    oldest_program text NOT NULL,           -- the oldest program that this schema still serves
    key_floor      date NOT NULL DEFAULT '0001-01-01'  -- key days before it may be gone; it only rises
);
INSERT INTO installation (hash_seed, oldest_program)
VALUES (decode(replace(gen_random_uuid()::text || gen_random_uuid()::text, '-', ''), 'hex'), '0.1.0');

CREATE TABLE usage_totals (
    project_id text COLLATE "C" NOT NULL,
    hour       timestamptz NOT NULL,
    model      text COLLATE "C" NOT NULL,
    call_kind  text COLLATE "C" NOT NULL CHECK (call_kind IN ('leaf', 'rollup', 'unstated')),
    calls                       numeric NOT NULL,
    prompt_tokens               numeric NOT NULL,
    input_tokens                numeric NOT NULL,
    completion_tokens           numeric NOT NULL,
    output_tokens               numeric NOT NULL,
    requests                    numeric NOT NULL,
    total_tokens                numeric NOT NULL,
    cache_creation_input_tokens numeric NOT NULL,
    cache_read_input_tokens     numeric NOT NULL,
    updated_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (project_id, hour, model, call_kind)
) WITH (fillfactor = 70);

CREATE TABLE status_totals (
    project_id text COLLATE "C" NOT NULL,
    hour       timestamptz NOT NULL,
    status     text COLLATE "C" NOT NULL,
    call_kind  text COLLATE "C" NOT NULL CHECK (call_kind IN ('leaf', 'rollup', 'unstated')),
    count      numeric NOT NULL,
    updated_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (project_id, hour, status, call_kind)
) WITH (fillfactor = 70);

CREATE TABLE outcome_totals (
    project_id text COLLATE "C" NOT NULL,
    hour       timestamptz NOT NULL,
    outcome    text COLLATE "C" NOT NULL CHECK (outcome IN ('success', 'error', 'descendant_error')),
    call_kind  text COLLATE "C" NOT NULL CHECK (call_kind IN ('leaf', 'rollup', 'unstated')),
    calls      numeric NOT NULL,
    updated_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (project_id, hour, outcome, call_kind)
) WITH (fillfactor = 70);

-- One row a partition. The two laws of conservation are constraints: a program that breaks one cannot commit.
CREATE TABLE checkpoints (
    cluster_id     text COLLATE "C" NOT NULL,
    topic_id       text COLLATE "C" NOT NULL,
    partition      integer NOT NULL,
    topic          text NOT NULL,
    consumer_group text NOT NULL,
    epoch          bigint NOT NULL,
    next_offset    bigint NOT NULL,
    first_offset   bigint NOT NULL,
    records_read   bigint NOT NULL DEFAULT 0,
    counted        bigint NOT NULL DEFAULT 0,
    duplicates     bigint NOT NULL DEFAULT 0,
    conflicts      bigint NOT NULL DEFAULT 0,
    dead_lettered  bigint NOT NULL DEFAULT 0,
    skipped        bigint NOT NULL DEFAULT 0,
    gap_offsets    bigint NOT NULL DEFAULT 0,
    record_time    timestamptz,
    dead_letters   jsonb NOT NULL DEFAULT '{}', -- dead_lettered, by reason
    breaker_run        bigint NOT NULL DEFAULT 0,
    breaker_read       bigint NOT NULL DEFAULT 0,
    breaker_rejected   bigint NOT NULL DEFAULT 0,
    breaker_tripped_at bigint,
    breaker_allowed_to bigint NOT NULL DEFAULT 0,
    owner_pid      integer,
    owner_started  timestamptz,
    updated_at     timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (cluster_id, topic_id, partition),
    CONSTRAINT every_offset_is_accounted_for CHECK (next_offset - first_offset = records_read + gap_offsets),
    CONSTRAINT every_record_has_one_outcome CHECK (records_read = counted + duplicates + dead_lettered + skipped),
    CONSTRAINT conflicts_are_duplicates CHECK (conflicts <= duplicates)
) WITH (fillfactor = 50);

-- Dedupe keys of ids that carry their time (UUIDv7): 48 bits of milliseconds, then 80 bits of a keyed hash.
-- Days are partitions, so that the unique index is exact and an old day goes as a whole.
CREATE TABLE seen_calls (
    call_key      uuid PRIMARY KEY,
    content_hash  bigint NOT NULL,
    record_offset bigint NOT NULL,
    partition     integer NOT NULL
) PARTITION BY RANGE (call_key);

-- All other ids: 128 bits of the same hash; `day` is the record's.
CREATE TABLE seen_calls_untimed (
    call_key      uuid PRIMARY KEY,
    content_hash  bigint NOT NULL,
    record_offset bigint NOT NULL,
    partition     integer NOT NULL,
    day           date NOT NULL
);
CREATE INDEX seen_calls_untimed_day ON seen_calls_untimed USING brin (day);

CREATE FUNCTION first_key_of_day(day date) RETURNS uuid
    LANGUAGE sql IMMUTABLE PARALLEL SAFE
    RETURN (lpad(to_hex((day - date '1970-01-01')::bigint * 86400000), 12, '0') || repeat('0', 20))::uuid;

-- The workers' only DDL. Attaching takes no lock that stops writers of other days. A day below the floor is not created:
-- its keys may have been dropped, so it would take repeats for new calls.
CREATE FUNCTION create_key_day(day date) RETURNS void
    LANGUAGE plpgsql SET search_path FROM CURRENT AS $$
DECLARE
    name text := 'seen_calls_' || to_char(day, 'YYYYMMDD');
BEGIN
    PERFORM pg_advisory_xact_lock(hashtext('seen_calls'), day - date '1970-01-01');
    IF to_regclass(name) IS NOT NULL OR day < (SELECT key_floor FROM installation) THEN
        RETURN;
    END IF;
    EXECUTE format('CREATE TABLE %I (LIKE seen_calls INCLUDING ALL)', name);
    EXECUTE format('ALTER TABLE seen_calls ATTACH PARTITION %I FOR VALUES FROM (%L) TO (%L)',
                   name, first_key_of_day(day), first_key_of_day(day + 1));
END $$;

CREATE FUNCTION drop_key_day(day date) RETURNS void
    LANGUAGE plpgsql SET search_path FROM CURRENT AS $$
BEGIN
    PERFORM pg_advisory_xact_lock(hashtext('seen_calls'), day - date '1970-01-01');
    IF day >= (SELECT key_floor FROM installation) THEN
        RAISE EXCEPTION 'key day % is not below the floor: a repeat of a call of that day could still come', day;
    END IF;
    EXECUTE format('DROP TABLE IF EXISTS %I', 'seen_calls_' || to_char(day, 'YYYYMMDD'));
END $$;

-- The public contract. *posted* is the literal sum of what clients posted; *leaf* counts each call's own usage once,
-- where clients say so. A share tells how much of the posted tokens sat on calls of that kind; null where there are none.
CREATE VIEW usage_hourly AS
SELECT project_id, hour, model, calls_posted, calls_leaf,
       prompt_tokens_posted, prompt_tokens_leaf,
       input_tokens_posted, input_tokens_leaf,
       completion_tokens_posted, completion_tokens_leaf,
       output_tokens_posted, output_tokens_leaf,
       requests_posted, requests_leaf,
       total_tokens_posted, total_tokens_leaf,
       cache_creation_input_tokens_posted, cache_creation_input_tokens_leaf,
       cache_read_input_tokens_posted, cache_read_input_tokens_leaf,
       rollup_tokens / nullif(posted_tokens, 0) AS rollup_share,
       unstated_tokens / nullif(posted_tokens, 0) AS unstated_share
FROM (
    SELECT project_id, hour, model,
           sum(calls) AS calls_posted,
           coalesce(sum(calls) FILTER (WHERE call_kind = 'leaf'), 0) AS calls_leaf,
           sum(prompt_tokens) AS prompt_tokens_posted,
           coalesce(sum(prompt_tokens) FILTER (WHERE call_kind = 'leaf'), 0) AS prompt_tokens_leaf,
           sum(input_tokens) AS input_tokens_posted,
           coalesce(sum(input_tokens) FILTER (WHERE call_kind = 'leaf'), 0) AS input_tokens_leaf,
           sum(completion_tokens) AS completion_tokens_posted,
           coalesce(sum(completion_tokens) FILTER (WHERE call_kind = 'leaf'), 0) AS completion_tokens_leaf,
           sum(output_tokens) AS output_tokens_posted,
           coalesce(sum(output_tokens) FILTER (WHERE call_kind = 'leaf'), 0) AS output_tokens_leaf,
           sum(requests) AS requests_posted,
           coalesce(sum(requests) FILTER (WHERE call_kind = 'leaf'), 0) AS requests_leaf,
           sum(total_tokens) AS total_tokens_posted,
           coalesce(sum(total_tokens) FILTER (WHERE call_kind = 'leaf'), 0) AS total_tokens_leaf,
           sum(cache_creation_input_tokens) AS cache_creation_input_tokens_posted,
           coalesce(sum(cache_creation_input_tokens) FILTER (WHERE call_kind = 'leaf'), 0)
               AS cache_creation_input_tokens_leaf,
           sum(cache_read_input_tokens) AS cache_read_input_tokens_posted,
           coalesce(sum(cache_read_input_tokens) FILTER (WHERE call_kind = 'leaf'), 0)
               AS cache_read_input_tokens_leaf,
           sum(tokens) AS posted_tokens,
           coalesce(sum(tokens) FILTER (WHERE call_kind = 'rollup'), 0) AS rollup_tokens,
           coalesce(sum(tokens) FILTER (WHERE call_kind = 'unstated'), 0) AS unstated_tokens
    FROM (
        SELECT *, prompt_tokens + input_tokens + completion_tokens + output_tokens AS tokens FROM usage_totals
    ) AS with_tokens
    GROUP BY project_id, hour, model
) AS summed;

CREATE VIEW outcomes_hourly AS
SELECT project_id, hour, outcome,
       sum(calls) AS calls_posted,
       coalesce(sum(calls) FILTER (WHERE call_kind = 'leaf'), 0) AS calls_leaf
FROM outcome_totals
GROUP BY project_id, hour, outcome;

CREATE VIEW statuses_hourly AS
SELECT project_id, hour, status,
       sum(count) AS count_posted,
       coalesce(sum(count) FILTER (WHERE call_kind = 'leaf'), 0) AS count_leaf
FROM status_totals
GROUP BY project_id, hour, status;
