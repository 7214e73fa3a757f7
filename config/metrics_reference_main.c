/* metrics_reference_main.c: prints docs/metrics.md; `ninja -C build metrics_page` writes it. */
#include "config/metrics.h"

int main(void)
{
    metrics_print_reference(stdout);
    return ferror(stdout) || fclose(stdout) != 0;
}
