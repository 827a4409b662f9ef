# The demo on a CPU, from the shipped checkpoints:
#   docker build -t asel .
#   docker run --name asel asel
#   docker cp asel:/home/asel/project/benchmarks_results/report .     (then open report/index.html)
# With CUDA libraries for a GPU: docker build --build-arg ASEL_TORCH= -t asel .
FROM python:3.12-slim

ARG ASEL_TORCH=cpu
ENV ASEL_TORCH=$ASEL_TORCH PYTHONUNBUFFERED=1
RUN useradd --create-home asel && install --directory --owner asel /home/asel/project
USER asel
WORKDIR /home/asel/project

# The environment first: it is built again only when the lock changes.
COPY --chown=asel bootstrap.sh pyproject.toml requirements.lock ./
COPY --chown=asel pipeline/check_environment.py pipeline/
RUN bash -c '. ./bootstrap.sh && bootstrap'

COPY --chown=asel . .
ENTRYPOINT ["./run_all.sh"]
CMD ["--profile", "demo"]
