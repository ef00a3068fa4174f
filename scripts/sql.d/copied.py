"""Traces of many clients, made of those of a few."""

import re

NUMBER = re.compile(rb'^(\{"v":\d+,"seq":)(\d+)')


def copied(files, to, count, prepared, other):
    """Writes the same connections again and again, until there are about so many events, and says how many there are. Of each line `prepared` makes
    once what `other` makes a line of another client of, with the number of the copy. A node numbers its events anew."""
    traces = [[line for line in file.read_bytes().splitlines(keepends=True) if NUMBER.match(line)] for file in files]
    copies = max(1, count // sum(len(lines) for lines in traces))
    with open(to, "wb") as out:
        for lines in traces:
            begins = ((NUMBER.match(line), line) for line in lines)
            parts = [(begin[1], prepared(line[begin.end():])) for begin, line in begins]
            number = 0
            for copy in range(copies):
                for begin, part in parts:
                    number += 1
                    out.write(begin + b"%d" % number + other(part, copy))
    return copies * sum(len(lines) for lines in traces)
