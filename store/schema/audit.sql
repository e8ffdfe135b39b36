create view renames as
    with recursive
    -- What the Hub itself says, over several renames.
    moved(source, name, renamed_to) as (
        select source, name, moved_to from repositories where state = 'renamed' and moved_to is not null
        union
        select m.source, m.name, r.moved_to
        from moved m
        join repositories r on r.source = m.source and r.name = m.renamed_to
        where r.state = 'renamed' and r.moved_to is not null
    ),
    found as (
        select m.source, m.name, m.renamed_to, 1 as told, n.model_id as old_id, n.model_id as new_id
        from moved m
        join live_models n on n.source = m.source and n.name = m.renamed_to and n.name <> m.name
        union all
        -- What is gone under one name and is there under another one, at the same commit: who moves a repository keeps it.
        select o.source, o.name, n.name, 0, o.model_id, n.model_id
        from models o
        join live_models n on n.source = o.source and n.revision = o.revision and n.name <> o.name
        where o.removed_run is not null
    )
    select f.source, f.name, f.renamed_to
    from found f
    where not exists (from live_models l where l.source = f.source and l.name = f.name)
    qualify row_number() over (partition by f.source, f.name order by f.told desc, f.old_id desc, f.new_id desc) = 1;
comment on view renames is 'Names that models of the graph have had, and the models that they are now: renamed as the Hub says (repositories), or gone under one name and live under another with the same revision in the same source.';

create view licenses as
    -- From free to strict. What is not here (other, unknown, a name of its own) says nothing.
    select license, family, strictness
    from (values
        ('permissive', 0, ['mit', 'mit-0', 'apache-2.0', 'bsd', 'bsd-2-clause', 'bsd-3-clause', 'bsd-3-clause-clear', '0bsd', 'isc',
            'cc0-1.0', 'cc-by-2.0', 'cc-by-2.5', 'cc-by-3.0', 'cc-by-4.0', 'unlicense', 'wtfpl', 'zlib', 'ncsa', 'artistic-2.0',
            'afl-3.0', 'ecl-2.0', 'bsl-1.0', 'ms-pl', 'postgresql', 'pddl', 'odc-by', 'cdla-permissive-1.0',
            'cdla-permissive-2.0']),
        ('share-alike', 1, ['lgpl', 'lgpl-2.1', 'lgpl-3.0', 'lgpl-lr', 'mpl-2.0', 'epl-1.0', 'epl-2.0', 'eupl-1.1', 'eupl-1.2',
            'cc-by-sa-3.0', 'cc-by-sa-4.0', 'odbl', 'cdla-sharing-1.0', 'osl-3.0', 'ofl-1.1', 'gfdl']),
        ('copyleft', 2, ['gpl', 'gpl-2.0', 'gpl-3.0', 'agpl-3.0']),
        ('use-restricted', 3, ['openrail', 'openrail++', 'creativeml-openrail-m', 'bigscience-openrail-m', 'bigcode-openrail-m',
            'bigscience-bloom-rail-1.0', 'llama2', 'llama3', 'llama3.1', 'llama3.2', 'llama3.3', 'llama4', 'gemma']),
        ('non-commercial', 4, ['cc-by-nc-2.0', 'cc-by-nc-3.0', 'cc-by-nc-4.0', 'cc-by-nc-sa-2.0', 'cc-by-nc-sa-3.0',
            'cc-by-nc-sa-4.0', 'cc-by-nc-nd-3.0', 'cc-by-nc-nd-4.0', 'cc-by-nd-4.0', 'apple-amlr', 'c-uda',
            'fair-noncommercial-research-license', 'intel-research'])
    ) f(family, strictness, members), unnest(f.members) as m(license);
comment on view licenses is 'Families of licenses by how much they forbid, from 0: permissive, share-alike (weak copyleft), copyleft, use-restricted (some uses are forbidden), non-commercial (or no derivatives). Names are those of model cards, in lower case; a license that is not listed says nothing.';

create view licensed as
    select k.model_id, l.license, l.family, l.strictness
    from claims k
    join licenses l on l.license = lower(k.value)
    where k.field = 'license'
    qualify row_number() over (partition by k.model_id order by l.strictness desc, l.license) = 1;
comment on view licensed is 'The license that each revision of a model declares, the strictest of several; models that declare none that is known are left out.';

create view audit as
    with recursive
    named as (
        select k.model_id, k.value, k.stated_in, m.source, coalesce(r.renamed_to, k.value) as name
        from claims k
        join live_models m on m.model_id = k.model_id
        left join renames r on r.source = m.source and r.name = k.value
        where k.field = 'base_model'
    ),
    claimed as (
        -- Two sources may hold a model of one name: a card means the one beside it, if there is one.
        select
            k.model_id, k.value, k.stated_in, b.model_id as base_id, b.content_hash as base_content,
            if(k.name <> k.value, 'now ' || k.name, null) as renamed
        from named k
        left join live_models b on b.name = k.name
        qualify row_number() over (
            partition by k.model_id, k.value, k.stated_in order by b.source = k.source desc, b.source
        ) = 1
    ),
    declared as (select distinct model_id, base_id from claimed where base_id is not null),
    -- From each model along the cards, as far as they lead.
    reached(model_id, base_id) as (
        from declared
        union
        select r.model_id, d.base_id from reached r join declared d on d.model_id = r.base_id
    ),
    relations as (
        select model_id, min(value) as relation from claims where field = 'base_model_relation'
        group by model_id having count(distinct value) = 1
    ),
    judged as (
        select
            m.model_id,
            m.name as model,
            k.value as claimed_parent,
            p.name as measured_parent,
            e.confidence,
            case
                when k.base_id is null then 'unknown base'
                when k.base_id = m.model_id then 'circular'
                when k.base_id = e.parent_id then 'confirmed'
                when list_contains(c.path, k.base_id) then 'confirmed, not direct'
                when exists (from reached r where r.model_id = k.base_id and r.base_id = m.model_id) then 'circular'
                when k.base_content in (p.content_hash, m.content_hash) then 'confirmed, a copy'
                when list_contains(bc.path, m.model_id) then 'reversed'
                when bc.root_id = c.root_id then 'contradicted'
                else 'unrelated'
            end as verdict,
            k.stated_in,
            k.renamed,
            if(
                k.base_id = e.parent_id and case d.relation
                    when 'quantized' then e.relation not in ('quantized', 'cast')
                    when 'merge' then e.relation <> 'merge'
                    when 'adapter' then e.relation not in ('lora', 'finetune', 'partial')
                    when 'finetune' then e.relation not in ('finetune', 'partial', 'lora')
                end,
                'declared ' || d.relation || ', measured ' || e.relation,
                null
            ) as other_relation
        from claimed k
        join live_models m on m.model_id = k.model_id
        join components c on c.model_id = m.model_id
        left join components bc on bc.model_id = k.base_id
        left join current_edges e on e.child_id = m.model_id
        left join nodes p on p.node_id = e.parent_id
        left join relations d on d.model_id = m.model_id
    )
    select
        model, claimed_parent, measured_parent, confidence, verdict, stated_in,
        nullif(concat_ws('; ', renamed, other_relation), '') as detail
    from judged
    union all
    -- The strictest license above a model, and of those the nearest.
    select
        m.name, null, a.name, e.confidence, 'stricter license', null,
        o.license || ' (' || o.family || '), but ' || s.license || ' (' || s.family || ') above it'
    from live_models m
    join components c on c.model_id = m.model_id
    join licensed o on o.model_id = m.model_id
    join current_edges e on e.child_id = m.model_id
    cross join unnest(range(1, c.depth + 1)) as steps(step)
    join live_models a on a.model_id = c.path[step]
    join licensed s on s.model_id = a.model_id and s.strictness > o.strictness
    qualify row_number() over (partition by m.model_id order by s.strictness desc, step desc) = 1;
comment on view audit is 'Claimed parents (base_model) beside measured ones. confirmed: the base is the measured parent; confirmed, not direct: it is an ancestor; circular: neither, and cards lead from it back to this model; confirmed, a copy: it is bit-equal to the model or its parent; reversed: it descends from the model; contradicted: it stands elsewhere in the same tree; unrelated: in another one; unknown base: not in the graph. A base that was renamed is followed (detail says to what); detail also says where the declared relation is another than the measured one. stricter license: no claim of a base; a measured ancestor (measured_parent) declares a license of a stricter family than the model does (view licenses). Where metadata weighs in (settings), a claim has been weighed and is measured by the outcome all the same.';
