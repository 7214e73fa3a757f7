-- producer/job_view.c, job_view_object: $1 job. A job that is held has one member more than OpenAI's.
select case when h.hold is null then o.object
    else (left(o.object::text, -1) || ', "hold" : ' || h.hold || '}')::json end
  from mserve.batch_object o, lateral (select mserve.job_hold(o.job) as hold) h where o.job = $1;
