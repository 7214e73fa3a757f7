/* test_db_param.c: query parameters have exactly the bytes that PostgreSQL's binary form asks for. */
#include "sql/db_internal.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

static void test_numbers_are_big_endian_and_bytes_are_borrowed(void **state)
{
    static const struct uuid uuid = {{1, 2, 3}};
    struct buffer encoded = {0};
    struct db_wire_params wire;

    (void)state;
    db_params_encode(
        DB_PARAMS(db_i64(-2), db_i32(258), db_bool(true), db_uuid(&uuid), db_text("ab")), &encoded,
        &wire);
    assert_memory_equal(wire.values[0], "\xff\xff\xff\xff\xff\xff\xff\xfe", 8);
    assert_memory_equal(wire.values[1], "\0\0\1\2", 4);
    assert_int_equal(wire.lengths[1], 4);
    assert_memory_equal(wire.values[2], "\1", 1);
    assert_ptr_equal(wire.values[3], uuid.bytes);
    assert_int_equal(wire.lengths[4], 2);
    assert_int_equal(wire.types[0], 20);
    buffer_release(&encoded);
}

/* A NULL pointer is SQL's null, an empty text is not. */
static void test_null_and_empty_differ(void **state)
{
    struct buffer encoded = {0};
    struct db_wire_params wire;

    (void)state;
    db_params_encode(DB_PARAMS(db_text(NULL), db_text(""), db_uuid(NULL), db_bytea("", 0)),
                     &encoded, &wire);
    assert_null(wire.values[0]);
    assert_non_null(wire.values[1]);
    assert_null(wire.values[2]);
    assert_non_null(wire.values[3]);
    assert_int_equal(wire.lengths[1], 0);
    buffer_release(&encoded);
}

static void test_an_array_of_slices_may_hold_nulls(void **state)
{
    static const struct slice texts[] = {{"xyz", 3}, {NULL, 0}, {"", 0}};
    static const char expected[] = "\0\0\0\1\0\0\0\0\0\0\0\x19\0\0\0\3\0\0\0\1"
                                   "\0\0\0\3xyz\xff\xff\xff\xff\0\0\0\0";
    struct buffer encoded = {0};
    struct db_wire_params wire;

    (void)state;
    db_params_encode(DB_PARAMS(db_text_array(texts, 3)), &encoded, &wire);
    assert_int_equal(wire.lengths[0], sizeof(expected) - 1);
    assert_memory_equal(wire.values[0], expected, sizeof(expected) - 1);
    buffer_release(&encoded);
}

static void test_an_empty_array_has_no_dimension(void **state)
{
    struct buffer encoded = {0};
    struct db_wire_params wire;

    (void)state;
    db_params_encode(DB_PARAMS(db_i64_array(NULL, 0)), &encoded, &wire);
    assert_int_equal(wire.lengths[0], 12);
    assert_memory_equal(wire.values[0], "\0\0\0\0\0\0\0\0\0\0\0\x14", 12);
    buffer_release(&encoded);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_numbers_are_big_endian_and_bytes_are_borrowed),
        cmocka_unit_test(test_null_and_empty_differ),
        cmocka_unit_test(test_an_array_of_slices_may_hold_nulls),
        cmocka_unit_test(test_an_empty_array_has_no_dimension),
    };

    return cmocka_run_group_tests_name("db_param", tests, NULL, NULL);
}
