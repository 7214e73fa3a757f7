-- The answers of a job of the demo, and what each one cost: scripts/quickstart shows them.
-- By hand: psql -v job=batch_... -f deploy/demo/answers.sql

select custom_id as document,
       btrim(response #>> '{choices,0,message,content}') as answer,
       round(gpu_ns / 1e6, 1) as "device ms",
       to_char(gpu_ns * price_per_hour / 3.6e12, 'FM0.000000000 ') || currency as price
  from mserve.results
  left join mserve.workers using (worker)
 where job = replace(:'job', 'batch_', '')::uuid
 order by line
 limit 7;

-- A document is named after its language, so the answers can be held against the truth.
select count(*) filter (where answer = language) || ' of ' || count(*) || ' are right' as answers
  from (select btrim(response #>> '{choices,0,message,content}') as answer,
               case right(custom_id, 2)
                   when 'en' then 'English' when 'de' then 'German' when 'fr' then 'French'
                   when 'es' then 'Spanish' when 'zh' then 'Chinese' when 'pt' then 'Portuguese'
                   when 'it' then 'Italian'
               end as language
          from mserve.results
         where job = replace(:'job', 'batch_', '')::uuid) as documents;
