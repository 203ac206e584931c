"""Which peers of the benchmarks are not installed, and what to type to get them. `make bench` ends with it."""

from __future__ import annotations

from harness import console

from largeds_native.profile.peer_packages import missing

if __name__ == "__main__":
    absent = missing()
    console.print("not measured, as not installed:" if absent else "all peers are installed")
    for peer in absent:
        console.print(f"  {peer.name}: {peer.command}", highlight=False, markup=False, soft_wrap=True)
