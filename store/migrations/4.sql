-- The key of pairs was a quarter of the database, which every run copies, and the one question that looks a pair up can
-- read the table through: without it.
create table pairs_without_key (
    model_a bigint not null,
    model_b bigint not null,
    distance double not null,
    correlation double not null,
    shared double not null,
    equal double not null,
    rank integer
);
insert into pairs_without_key select * from pairs order by model_a, model_b;
drop table pairs;
alter table pairs_without_key rename to pairs;
