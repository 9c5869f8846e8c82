/** A log: grows, and goes back or forward to any mark that was taken of it. */
import fc from 'fast-check';
import { expect, it } from 'vitest';
import { Log, type LogMark } from '../../emulator/machine/log.js';

it('every mark gives back what the log held then, in whatever order they are restored', () => {
  const act = fc.oneof(
    fc.record({ do: fc.constant('push' as const), value: fc.nat() }),
    fc.record({ do: fc.constant('mark' as const) }),
    fc.record({ do: fc.constant('restore' as const), which: fc.nat() }),
  );
  fc.assert(
    fc.property(fc.array(act, { maxLength: 60 }), (acts) => {
      const log = new Log<number>();
      const marks: { mark: LogMark<number>; held: number[] }[] = [];
      let model: number[] = [];
      for (const one of acts) {
        if (one.do === 'push') {
          log.push(one.value);
          model.push(one.value);
        } else if (one.do === 'mark') {
          marks.push({ mark: log.mark(), held: [...model] });
        } else if (marks.length > 0) {
          const { mark, held } = marks[one.which % marks.length]!;
          log.restore(mark);
          model = [...held];
        }
        expect(log.items).toEqual(model);
      }
    }),
  );
});
