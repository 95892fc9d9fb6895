"""Prefect tasks. With them a process can read passwords from Secret blocks: see `tasks.secret_blocks`."""

from foreshard.postgres import passwords
from tasks.secret_blocks import read

passwords.read_blocks_by(read)
