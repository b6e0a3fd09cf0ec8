"""llama.cpp's own server, from the wheel xllamacpp, until it is killed: FOLDER PORT THREADS."""

import sys
import time


def main() -> None:
    """Serve, with room for 16 streams of 2048 tokens."""
    import xllamacpp

    folder, port, threads = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
    parameters = xllamacpp.CommonParams()
    parameters.model.path = f"{folder}/model-Q8_0.gguf"
    parameters.n_ctx, parameters.n_parallel = 16 * 1024, 16
    parameters.cpuparams.n_threads = parameters.cpuparams_batch.n_threads = threads
    parameters.port = port
    server = xllamacpp.Server(parameters)
    print(server.listening_address, flush=True)
    while True:
        time.sleep(60)


if __name__ == "__main__":
    main()
