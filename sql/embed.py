#!/usr/bin/env python3
"""embed.py: turns .sql files into C, so that what runs is what stands in the files.

    embed.py queries    OUT.c OUT.h FILE.sql…   one constant a file: claim_partitions.sql
                                                becomes `extern const char QUERY_CLAIM_PARTITIONS[]`
    embed.py migrations OUT.c OUT.h FILE.sql…   the table `migrations[]`, in order of number, each
                                                with the sha256 of its file

Comment lines are left out of queries, and kept in migrations.
"""
import hashlib
import os
import re
import sys


def c_string(text):
    """The text as C string literals, one a line."""
    escaped = text.replace('\\', '\\\\').replace('"', '\\"').replace('??', '?\\?')
    return '\n'.join('    "%s\\n"' % line for line in escaped.rstrip('\n').split('\n'))


def queries(files):
    head, body = [], []
    for path in files:
        text = open(path, encoding='utf-8').read()
        if not text.startswith('-- '):
            sys.exit('%s: the first line must say who calls it and what $1 $2 are' % path)
        name = 'QUERY_' + os.path.basename(path)[:-len('.sql')].upper()
        lines = [line.rstrip() for line in text.split('\n')]
        kept = '\n'.join(line for line in lines if line and not line.lstrip().startswith('--'))
        head.append('extern const char %s[];' % name)
        body.append('const char %s[] =\n%s;' % (name, c_string(kept)))
    return head, body


def migrations(files):
    head = ['struct migration {', '    int number;', '    const char *name;',
            '    const char *sha256; /* of the file, in hex */', '    const char *text;', '};', '',
            'extern const struct migration migrations[];',
            'extern const int migrations_count; /* and the number of the newest */']
    rows = []
    for expected, path in enumerate(sorted(files, key=os.path.basename), 1):
        data = open(path, 'rb').read()
        match = re.fullmatch(r'(\d{4})_([a-z0-9_]+)\.sql', os.path.basename(path))
        if not match or int(match.group(1)) != expected:
            sys.exit('%s: expected a file named %04d_<name>.sql' % (path, expected))
        rows.append('    {%d, "%s", "%s",\n%s},' % (expected, match.group(2),
                    hashlib.sha256(data).hexdigest(), c_string(data.decode('utf-8'))))
    return head, ['const struct migration migrations[] = {'] + rows + [
        '};', 'const int migrations_count = %d;' % len(rows)]


def main():
    kind, out_c, out_h = sys.argv[1:4]
    head, body = {'queries': queries, 'migrations': migrations}[kind](sys.argv[4:])
    guard = 'MSERVE_SQL_%s_H' % kind.upper()
    with open(out_h, 'w', encoding='utf-8') as file:
        file.write('/* Made by sql/embed.py from the .sql files; not to be edited. */\n'
                   '#ifndef %s\n#define %s\n\n%s\n\n#endif\n' % (guard, guard, '\n'.join(head)))
    with open(out_c, 'w', encoding='utf-8') as file:
        file.write('/* Made by sql/embed.py from the .sql files; not to be edited. */\n'
                   '#include "sql/%s.h"\n\n%s\n' % (kind, '\n'.join(body)))


main()
