-- The workers' only DDL runs with the rights of whoever owns these tables, so that a worker owns nothing: it can add a
-- day of keys, and drop one below the floor, and that is all. What these functions call by name is looked up in this
-- schema first and in the caller's temporary tables last: else a worker could put a floor of its own in between.
DO $$
DECLARE
    signature text;
BEGIN
    FOREACH signature IN ARRAY ARRAY['create_key_day(date)', 'drop_key_day(date)'] LOOP
        EXECUTE format('ALTER FUNCTION %s SECURITY DEFINER', signature);
        EXECUTE format('ALTER FUNCTION %s SET search_path = %I, pg_temp', signature, current_schema());
        EXECUTE format('REVOKE EXECUTE ON FUNCTION %s FROM PUBLIC', signature);
    END LOOP;
END $$;
