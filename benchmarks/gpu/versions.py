"""Prints what a report must say of the machine first, and refuses a driver that is too old for the runtime."""

import argparse

import torch

from gpu import device


def problem(driver: str, runtime: str | None) -> str | None:
    """Why CUDA cannot start with this driver and torch's runtime, in words; None when it can."""
    if runtime is None:
        return "this torch is built without CUDA: install one with it"
    if driver == "unknown":
        return "nvidia-smi found no driver"
    if int(runtime.split(".")[0]) >= 13 and int(driver.split(".")[0]) < device.LEAST_DRIVER:
        return (
            f"CUDA {runtime} needs driver R{device.LEAST_DRIVER} or newer, found {driver}: update it, or use a torch "
            "and an nvcc of CUDA 12"
        )
    return None


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--dry-run", action="store_true", help="print, and go on whatever is missing")
    arguments = parser.parse_args()
    driver, runtime = device.driver(), torch.version.cuda
    print(f"driver {driver}, CUDA runtime of torch {runtime or 'none'}")
    found = problem(driver, runtime)
    if found is not None and not arguments.dry_run:
        raise SystemExit(found)
    if found is not None:
        print(f"dry run goes on without a GPU: {found}")
    for name, value in device.description(device.target(arguments.dry_run)).items():
        print(f"{name}: {value}")


if __name__ == "__main__":
    main()
