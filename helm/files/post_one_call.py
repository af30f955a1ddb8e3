"""`helm test`: post one call to the door, and wait until its tokens are among the totals.

    python post_one_call.py URL PROJECT_ID [KEY_FILE]

Reads the totals with `call-processor usage`, which takes its settings from the environment. The call stays counted.
"""

import base64
import json
import subprocess
import sys
import time
import urllib.error
import urllib.request
import uuid
from datetime import UTC, datetime
from pathlib import Path

MODEL = "helm-test"
POST_WITHIN_S = 60
COUNT_WITHIN_S = 120


def post(url: str, project: str, key: str | None) -> None:
    """Until the door has taken it: 503 says that it will later, as while the broker is away."""
    usage = {MODEL: {"prompt_tokens": 2, "completion_tokens": 1, "total_tokens": 3}}
    end = {
        "project_id": project,
        "id": str(uuid.uuid4()),
        "ended_at": datetime.now(UTC).isoformat(),
        "summary": {"usage": usage, "status_counts": {"success": 1, "error": 0}},
    }
    headers = {"Content-Type": "application/json"}
    if key is not None:
        headers["Authorization"] = "Basic " + base64.b64encode(f"api:{key}".encode()).decode()
    request = urllib.request.Request(url, json.dumps({"end": end}).encode(), headers)
    deadline = time.monotonic() + POST_WITHIN_S
    while True:
        try:
            with urllib.request.urlopen(request, timeout=35):
                return
        except urllib.error.HTTPError as error:
            problem = f"the door answers {error.code}"
            if error.code < 500:
                sys.exit(f"{problem}: {error.read().decode(errors='replace')}")
        except OSError as error:
            problem = f"nobody answers at {url} ({error})"
        if time.monotonic() > deadline:
            sys.exit(problem)
        time.sleep(1)


def counted(project: str) -> int:
    command = [sys.executable, "-m", "processor", "usage", "--json", "--by", "total", "--project", project]
    rows = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    return sum(row["posted"]["calls"] for row in rows if row["model"] == MODEL)


def main(url: str, project: str, key_file: str | None = None) -> None:
    before = counted(project)
    post(url, project, None if key_file is None else Path(key_file).read_text().strip())
    print(f"the door at {url} has taken a call of {project}")
    deadline = time.monotonic() + COUNT_WITHIN_S
    while counted(project) <= before:
        if time.monotonic() > deadline:
            sys.exit(f"after {COUNT_WITHIN_S} s the call is not counted: look at the workers")
        time.sleep(1)
    print("and the workers have counted it")


if __name__ == "__main__":
    main(*sys.argv[1:])
