"""What is run, waited for and claimed, and what is printed of it."""

import os
import subprocess
import time

# scripts/vm says so.
SLOW = 10 if os.environ.get("DUNNAT_LAB_SLOW") else 1


class Failed(Exception):
    pass


def say(text):
    print(text, flush=True)


def run(*command, check=True, **more):
    done = subprocess.run([str(word) for word in command], text=True, capture_output=True, **more)
    if check and done.returncode != 0:
        raise Failed(f"{' '.join(str(word) for word in command)}: {done.stdout}{done.stderr}")
    return done


def wait_for(what, is_so, limit=30):
    limit *= SLOW
    end = time.monotonic() + limit
    while time.monotonic() < end:
        value = is_so()
        if value:
            return value
        time.sleep(0.1)
    raise Failed(f"waited {limit} s for {what}")


def check(claim, is_so):
    say(f"   {'yes' if is_so else 'NO '}  {claim}")
    if not is_so:
        raise Failed(claim)
