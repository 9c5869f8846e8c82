import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { EventQueue } from '../../emulator/clock/event-queue.js';

function drain(queue: EventQueue<string>, now = Infinity): string[] {
  const taken: string[] = [];
  for (let due = queue.takeDue(now); due !== undefined; due = queue.takeDue(now))
    taken.push(due.event);
  return taken;
}

describe('EventQueue', () => {
  it.each([
    { rule: 'the earlier event comes first', tscs: [20, 10], order: ['1', '0'] },
    {
      rule: 'events due together keep the order of insertion',
      tscs: [5, 5, 5],
      order: ['0', '1', '2'],
    },
    {
      rule: 'a late insertion at an old time goes behind its equals',
      tscs: [5, 9, 5],
      order: ['0', '2', '1'],
    },
  ])('$rule', ({ tscs, order }) => {
    const queue = new EventQueue<string>();
    tscs.forEach((tsc, index) => queue.schedule(tsc, String(index)));
    expect(drain(queue)).toEqual(order);
  });

  it('an event is taken at its TSC and not one tick before', () => {
    const queue = new EventQueue<string>();
    queue.schedule(100, 'timer');
    expect(queue.takeDue(99)).toBeUndefined();
    expect(queue.takeDue(100)).toEqual({ id: 1, tsc: 100, event: 'timer' });
  });

  it('a cancelled event never comes, and cancelling it again says so', () => {
    const queue = new EventQueue<string>();
    const id = queue.schedule(1, 'gone');
    queue.schedule(2, 'stays');
    expect([queue.cancel(id), queue.cancel(id)]).toEqual([true, false]);
    expect(drain(queue)).toEqual(['stays']);
  });

  it('an empty queue is due at infinity', () => {
    expect(new EventQueue<string>().nextTsc).toBe(Infinity);
  });

  it('a restored queue drains like the one its state was taken from, and gives no id twice', () => {
    const queue = new EventQueue<string>();
    queue.schedule(3, 'a');
    queue.schedule(1, 'b');
    const copy = EventQueue.fromState(queue.state());
    expect(copy.schedule(2, 'c')).toBe(3);
    expect(drain(copy)).toEqual(['b', 'c', 'a']);
    expect(drain(queue)).toEqual(['b', 'a']);
  });

  it('any schedule drains as a stable sort by TSC', () => {
    fc.assert(
      fc.property(fc.array(fc.nat(20)), (tscs) => {
        const queue = new EventQueue<string>();
        tscs.forEach((tsc, index) => queue.schedule(tsc, String(index)));
        const sorted = tscs.map((tsc, index) => ({ tsc, index })).sort((a, b) => a.tsc - b.tsc);
        expect(drain(queue)).toEqual(sorted.map(({ index }) => String(index)));
      }),
    );
  });
});
