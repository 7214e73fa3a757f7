-- lease.c, lease_bury_expired: $1 worker, whose lease ran out.
select mserve.bury_vanished($1);
