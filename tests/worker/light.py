"""The real worker program, with a fork server that loads only what the tests' small engines need."""

from worker import __main__, children

children.PRELOAD["jobs"] = ("worker.child", "worker.jobs_child")

if __name__ == "__main__":
    __main__.main()
