#!/usr/bin/env python3
"""Throughput of tensorboardX's SummaryWriter, as JSON lines."""

from eventlog_workloads import measure
from tensorboardX import SummaryWriter

measure("tensorboardX", SummaryWriter)
