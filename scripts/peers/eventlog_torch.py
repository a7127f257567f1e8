#!/usr/bin/env python3
"""Throughput of torch.utils.tensorboard's SummaryWriter, as JSON lines."""

from eventlog_workloads import measure
from torch.utils.tensorboard import SummaryWriter

measure("torch.utils.tensorboard", SummaryWriter)
