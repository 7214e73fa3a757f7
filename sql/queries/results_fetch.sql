-- producer/results.c: the next rows of results_cursor.
fetch 200 from results_cursor;
