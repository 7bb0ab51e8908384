"""Serve two models from one program, and ask both for the same image; 3D Slicer lists both, too.

python examples/two_models.py fast/model.pt careful/model.pt data/imagesTr/case.nii.gz
"""

import json
import sys
import threading
import time
import urllib.request
from pathlib import Path

import uvicorn

from deepedit.server.access import Access
from deepedit.server.app import create_app
from deepedit.server.service import Service, load_models

MEMORY = 4 * 2**30  # bytes for the sessions of both


def main(first: str, second: str, image: str) -> None:
    studies = Path(image).parents[1]  # the folder that holds imagesTr
    # Where both know a label, it has to have the same value. Users could fine-tune the first, which is left out here.
    models = load_models([Path(first), Path(second)], studies, "auto", print)
    service = Service(models, studies, Access(), MEMORY, trains=False, say=print)
    server = uvicorn.Server(uvicorn.Config(create_app(service), port=0, log_level="error"))
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        while not server.started:
            time.sleep(0.01)
        port = server.servers[0].sockets[0].getsockname()[1]
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/info/") as answer:
            served = json.load(answer)["models"]
        for name, facts in served.items():
            if facts["type"] == "segmentation":
                ask = f"http://127.0.0.1:{port}/infer/{name}?image={Path(image).name.removesuffix('.nii.gz')}&output=image"
                with urllib.request.urlopen(urllib.request.Request(ask, method="POST")) as answer:
                    print(f"{name}: {len(answer.read())} bytes of segmentation, labels {', '.join(facts['labels'])}")
    finally:
        server.should_exit = True
        thread.join()
        service.close()


if __name__ == "__main__":
    main(*sys.argv[1:])
