-- 0013_deliveries.sql: claiming what is owed, and writing down what came of it.
do $$ begin end $$; -- until its owner writes it
