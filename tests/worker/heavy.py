"""The real worker program, with a fork server whose libraries take longer to load than a short lease lasts."""

from worker import __main__, children

children.PRELOAD["jobs"] = ("tests.worker.slow_library", "worker.child", "worker.jobs_child")

if __name__ == "__main__":
    __main__.main()
