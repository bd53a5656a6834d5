"""Two nodes of a Ray cluster on loopback, until standard input ends. Says where the head is and which processes are the
nodes."""

from __future__ import annotations

import json
import socket
import sys

from ray.cluster_utils import Cluster

STORE_BYTES = 80_000_000  # in /dev/shm; Ray takes hardly less
PORTS = ("metrics_agent_port", "runtime_env_agent_port", "dashboard_agent_listen_port", "metrics_export_port")


def free_ports() -> dict[str, int]:
    listeners = [socket.create_server(("127.0.0.1", 0)) for _ in PORTS]
    ports = {name: listener.getsockname()[1] for name, listener in zip(PORTS, listeners, strict=True)}
    for listener in listeners:
        listener.close()
    return ports


def main() -> None:
    small = {"num_cpus": 1, "object_store_memory": STORE_BYTES, "node_ip_address": "127.0.0.1"}
    bare = {"include_dashboard": False, "include_log_monitor": False, "no_monitor": True}
    cluster = Cluster(initialize_head=True, head_node_args={**small, **bare, **free_ports()})
    nodes = [cluster.head_node, cluster.add_node(**small, **bare, **free_ports())]
    pids = [node.all_processes["raylet"][0].process.pid for node in nodes]
    print(json.dumps({"address": cluster.address, "nodes": pids}), flush=True)
    sys.stdin.read()


if __name__ == "__main__":
    main()
