-- Who may do what. `call-processor migrate` runs this each time it has applied what was missing, as the owner of the
-- tables, and may run it again at any time. The two roles are groups for roles that log in, made by whoever administers
-- the server (docs/security.md); a role that does not exist is left out, and whoever owns the tables needs neither.
DO $$
DECLARE
    schema_name text := current_schema();
BEGIN
    IF EXISTS (SELECT FROM pg_roles WHERE rolname = 'call_processor_worker') THEN
        IF NOT has_schema_privilege('call_processor_worker', schema_name, 'USAGE') THEN
            EXECUTE format('GRANT USAGE ON SCHEMA %I TO call_processor_worker', schema_name);
        END IF;
        GRANT SELECT ON migrations, installation, moved_checkpoints, decided, usage_hourly, outcomes_hourly, statuses_hourly
            TO call_processor_worker;
        GRANT UPDATE (key_floor) ON installation TO call_processor_worker;
        GRANT SELECT, INSERT, UPDATE ON usage_totals, status_totals, outcome_totals, checkpoints TO call_processor_worker;
        GRANT SELECT, INSERT ON seen_calls TO call_processor_worker;
        GRANT SELECT, INSERT, DELETE ON seen_calls_untimed TO call_processor_worker;
        GRANT EXECUTE ON FUNCTION create_key_day(date), drop_key_day(date) TO call_processor_worker;
        GRANT SELECT, UPDATE (last_run_at, horizon_days, horizon_at) ON maintenance TO call_processor_worker;
        GRANT SELECT, INSERT, DELETE ON baselines, baseline_offsets, baseline_totals TO call_processor_worker;
    END IF;

    -- The public contract, and what `call-processor usage` and `status` look at; no seed, no keys of calls.
    IF EXISTS (SELECT FROM pg_roles WHERE rolname = 'call_processor_reader') THEN
        IF NOT has_schema_privilege('call_processor_reader', schema_name, 'USAGE') THEN
            EXECUTE format('GRANT USAGE ON SCHEMA %I TO call_processor_reader', schema_name);
        END IF;
        GRANT SELECT ON usage_hourly, outcomes_hourly, statuses_hourly, checkpoints, migrations TO call_processor_reader;
        GRANT SELECT (oldest_program) ON installation TO call_processor_reader;
    END IF;
END $$;
