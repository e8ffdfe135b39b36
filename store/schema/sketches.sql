create temp view sketches as
    select k.*
    from read_parquet({shards}, hive_partitioning = true, union_by_name = true) k
    semi join models m on m.model_id = k.model_id and m.removed_run is null;
