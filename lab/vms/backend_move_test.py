#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-only
"""backend_move_test.py: a backend goes on in another QEMU, or as it was at another time.

Runs in the lab. There is no guest: what one would write to registers this program does.
"""

import os

from fronts import (ACK, CONFIG_GENERATION, CONNECTED, CONTROL, DOMAIN, EPOCH, OFFER_FEATURES, STATE, VERSION_1, WINDOW,
	Back, Front, socket_path)
from vms import check, equal, main, test


@test
def it_migrates():
	path = socket_path()
	file = f"{path}.state"
	source = Back("source").begin()
	with source:
		source.register(features=VERSION_1 | 1, queues=7, device=2, config=b"configuration")
		p = Front(source.path).hello(features=VERSION_1 | 1).run(kind=2).queue()
		epoch = source.ack()
		source.qmp("migrate", uri=f"file:{file}")
		source.wait("it is saved", lambda: source.qmp("query-migrate").get("status") in ("completed", "failed"), 60)
		equal(source.qmp("query-migrate")["status"], "completed", "the migration")
		offers = [source.read(r) for r in range(OFFER_FEATURES, CONFIG_GENERATION + 4, 4)]
		target = Back("target", "-incoming", "defer", *Back("x", path=path).args, path=path)
		target.begin(setup=False)
		early = Front(path)
		check(early.closed(), "nobody is taken before it has arrived")
		early.close()
		target.events.clear()
		target.qmp("migrate-incoming", uri=f"file:{file}")
		target.wait_event("RESUME", 60)
		equal([target.read(r) for r in range(OFFER_FEATURES, CONFIG_GENERATION + 4, 4)], offers, "what is registered")
		equal((target.read(STATE), target.read(CONTROL), target.queue(0)), (0, 1, 0), "it has no peer")
		check(target.read(EPOCH) > epoch, "another epoch")
		equal(target.read(ACK), 0, "ACK")
		q = Front(path).hello(features=VERSION_1 | 1).run(kind=2).queue()
		target.ack()
		equal(target.read(STATE), CONNECTED | DOMAIN | WINDOW, "with its next peer")
		q.close()
		target.kill()
		p.close()
	os.unlink(file)


@test
def the_path_is_the_last_one_s():
	"""Who ends in good order takes the path along only if nobody else has taken it over."""
	path = socket_path()
	with Back("first", path=path).begin() as first, Back("second", path=path).begin() as second:
		first.qmp("quit")
		first.process.wait(60)
		second.register(queues=1)
		Front(path).hello().run(queues=1).queue().close()
		second.qmp("quit")
		second.process.wait(60)
		check(not os.path.exists(path), "it is gone with the last one")


@test
def it_is_saved_and_restored():
	"""It was disconnected meanwhile, whoever is there, and goes on with the next peer."""
	file = f"{socket_path()}.qcow2"
	vm = Back("saved", *Back("x", path=(path := socket_path())).args, path=path)
	with vm.begin():
		vm.add_snapshots(file)
		vm.register(features=VERSION_1 | 1, queues=7, device=2, config=b"configuration")
		offers = [vm.read(r) for r in range(OFFER_FEATURES, CONFIG_GENERATION + 4, 4)]
		p = Front(path).hello(features=VERSION_1 | 1).run(kind=2).queue()
		saved = vm.ack()
		vm.snapshot("save")
		# It lives on, as something else
		equal((vm.read(EPOCH), vm.read(STATE)), (saved, CONNECTED | DOMAIN | WINDOW), "after it was saved")
		p.none()
		vm.register(queues=1)
		check(p.closed(), "it hangs up")
		p.close()
		vm.lost()
		for peer in (lambda: None, lambda: Front(path).hello().run(queues=1).queue()):
			p = peer()
			vm.ack()
			vm.qmp("stop")
			vm.snapshot("load")
			vm.qmp("cont")
			if p:
				equal(vm.lost(), "the guest's back-end has gone", "the reason")
				check(p.closed(), "it hangs up")
				p.close()
			equal([vm.read(r) for r in range(OFFER_FEATURES, CONFIG_GENERATION + 4, 4)], offers, "what is registered")
			equal((vm.read(STATE), vm.read(CONTROL), vm.queue(0)), (0, 1, 0), "it has no peer")
			check(vm.read(EPOCH) > saved, "another epoch than the one that the guest knows")
			equal((vm.read(ACK), vm.info()["backend"]["shown"]), (0, 0), "ACK, and what is shown")
			vm.write(ACK, saved)
			q = Front(path).hello(features=VERSION_1 | 1).run(kind=2).queue()
			equal(vm.read(STATE), CONNECTED | DOMAIN, "the next peer's domain is not shown yet")
			vm.ack()
			equal(vm.read(STATE), CONNECTED | DOMAIN | WINDOW, "with its next peer")
			q.close()
			vm.lost()
			vm.register(queues=1)
	os.unlink(file)


main()
