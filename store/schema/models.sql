create table models (
    model_id bigint primary key,
    name varchar not null,
    revision varchar not null,
    source varchar not null,
    architecture varchar not null,
    dtype varchar not null,
    tensors integer not null,
    parameters bigint not null,
    bytes_total bigint not null,
    bytes_read bigint not null,
    content_hash varchar not null,
    created_at timestamp,
    modified_at timestamp,
    shard varchar not null,
    added_run integer not null,
    removed_run integer,
    format varchar,
    quantization varchar,
    kind varchar
);
create index models_by_name on models (name);
comment on table models is 'One row for each revision of a model that was ingested. (source, name) is unique among rows with removed_run null.';
comment on column models.model_id is 'Counts from 1 in order of arrival.';
comment on column models.name is 'org/name on the Hub, the path below the source for folders. A repository that was renamed has its present name on all its revisions.';
comment on column models.revision is 'Commit sha on the Hub and in a cache; for a folder a digest of file names, sizes and modification times.';
comment on column models.source is 'folder:PATH, cache:PATH or hub:URL.';
comment on column models.architecture is 'References architectures.';
comment on column models.dtype is 'Element type of most values: F32, BF16, ...';
comment on column models.tensors is 'Tensors with a sketch.';
comment on column models.parameters is 'Values in those tensors.';
comment on column models.bytes_total is 'Size of the weight files.';
comment on column models.bytes_read is 'Bytes read of them, headers included; of a Hub, those that came over the network.';
comment on column models.content_hash is '32 hex digits over canonical names and content hashes of all sketched tensors: equal for bit-equal copies; of tensors of more than 2^20 elements, equal in the values that the sketches cover.';
comment on column models.created_at is 'UTC, as the source says; null where it does not.';
comment on column models.modified_at is 'UTC, as the source says; null where it does not.';
comment on column models.shard is 'Parquet file with its sketches, relative to the graph. Its name ends in its checksum: 32 hex digits, the first 16 bytes of BLAKE3 of the file.';
comment on column models.added_run is 'Run that ingested it.';
comment on column models.removed_run is 'Run that found it gone or replaced by a newer revision; null while it is live.';
comment on column models.format is 'Format of the weight files: safetensors, torch, flax, keras, gguf or onnx.';
comment on column models.quantization is 'How the file stores most values, where that is not dtype: Q4_K, gptq4, awq4, nf4, int8, lora 16, ...; null where values are stored as they are.';
comment on column models.kind is 'model, or adapter: its tensors are differences from a base, and it is in no tree.';
