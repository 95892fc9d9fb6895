#!/bin/sh
# Run by PostgreSQL's image when its data directory is new: the two roles and the two databases of the control server.
# Passwords come from files and reach psql by variables of its own process, never by arguments.
set -eu
psql --no-psqlrc --set ON_ERROR_STOP=1 --username "$POSTGRES_USER" --dbname postgres <<'SQL'
\set foreshard `cat /run/secrets/foreshard_password`
\set prefect `cat /run/secrets/prefect_password`
CREATE ROLE foreshard LOGIN PASSWORD :'foreshard';
CREATE ROLE prefect LOGIN PASSWORD :'prefect';
CREATE DATABASE foreshard OWNER foreshard;
CREATE DATABASE prefect OWNER prefect;
REVOKE CONNECT ON DATABASE foreshard, prefect FROM PUBLIC;
SQL
