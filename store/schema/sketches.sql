create temp view sketches as
    -- Shards of the first sketch version cover all values and do not say so.
    with every as (
        from read_parquet({shards}, hive_partitioning = true, union_by_name = true)
        union all by name
        select null::bigint as covered, null::blob as whole_hash where false
    )
    select
        k.* exclude (covered, whole_hash, arch),
        coalesce(k.covered, k.elements) as covered,
        if(k.covered is null, k.content_hash, k.whole_hash) as whole_hash,
        k.arch
    from every k
    semi join models m on m.model_id = k.model_id and m.removed_run is null;
