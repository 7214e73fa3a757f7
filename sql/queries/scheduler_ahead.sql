-- scheduler.c: partitions for the months to come; what is in their way, or null.
select mserve.results_ahead();
