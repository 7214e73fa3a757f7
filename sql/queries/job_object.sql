-- producer/job_view.c, job_view_object: $1 job.
select object from mserve.batch_object where job = $1;
