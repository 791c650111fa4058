# One image for every process; what it runs is the command. Data (secrets, and the database without PostgreSQL) is in /data.
FROM python:3.11-slim

RUN useradd --create-home --uid 10001 cluster && install -d -m 700 -o cluster -g cluster /data
COPY . /app
WORKDIR /app
# The versions the tests ran with.
RUN grep -v '^-e' requirements.txt > /tmp/constraints.txt \
    && pip install --no-cache-dir --constraint /tmp/constraints.txt ".[api]"

USER cluster
ENV RETIRE_CLUSTER_DATA_DIR=/data
VOLUME /data
EXPOSE 8080 8081
HEALTHCHECK --interval=30s --timeout=5s --start-period=20s \
    CMD ["python", "-c", "import urllib.request; urllib.request.urlopen('http://127.0.0.1:8081/health', timeout=4)"]
CMD ["retire-cluster-api", "--host", "0.0.0.0", "--port", "8081"]
