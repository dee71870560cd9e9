"""Train a configuration up to a step, in as many processes as torchrun starts: what `test_distributed` runs."""

import json
import sys
from pathlib import Path

from core.config import RunConfig, from_dict
from core.corpus.dataset import dataset_folder, open_dataset
from core.training import distributed
from core.training.folder import run_folder
from core.training.run import train


def main(config_path, data, results, run_id, parallel, stop_after):
    config = from_dict(RunConfig, json.loads(Path(config_path).read_text()))
    made = 0

    def should_stop():
        nonlocal made
        made += 1
        return made > int(stop_after)  # asked after every row, also that of step 0

    with distributed.joined(config.device):
        dataset = open_dataset(dataset_folder(data, "stories"))
        train(config, dataset, run_folder(data, run_id), results, should_stop=should_stop, parallel=parallel)


if __name__ == "__main__":
    main(*sys.argv[1:])
