-- outbox.c, outbox_record: arrays: $1 endpoint, $2 event, $3 token of the claim, $4 outcome, $5 status or
-- null, $6 why or null, $7 ms it took, $8 ms since it ended, $9 ms from then until it is due again,
-- $10 ms from then for which the endpoint rests, $11 why the endpoint is disabled or null.
select endpoint, why from mserve.webhook_record($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11);
