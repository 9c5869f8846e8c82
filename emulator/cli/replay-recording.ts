/**
 * A recording of the debugger, given to `replay`: what was changed is changed again, and the run goes on to its end.
 *
 * Source: emulator/debug/recording.ts.
 */
import { readRecording } from '../debug/recording.js';
import { DebugSession } from '../debug/session.js';
import { ConductorError } from '../machine/conductor.js';
import { loadScenario } from '../machine/scenario/load.js';
import { runReport, type RunReport, type RunSettings } from '../report/run-report.js';

/** Plays a recording of a built-in scenario on a payload. @throws RecordingError, ScenarioError. */
export function replayRecording(
  text: string,
  file: string,
  { scenario, seed }: { readonly scenario: string; readonly seed: number },
  settings: Omit<RunSettings, 'stopped'>,
): RunReport {
  let report: RunReport | null = null;
  const played = { scenario: { ...loadScenario(scenario), seed }, payload: settings.payload };
  const session = new DebugSession(played, (at, { cause }) => {
    if (cause.kind === 'start') return { kind: 'replay', ...readRecording(text, file, at) };
    if (cause.kind !== 'ended') return { kind: 'end' };
    const { error } = cause;
    if (error !== null && !(error instanceof ConductorError)) throw error;
    report = runReport(at.conductor, { ...settings, stopped: error });
    return { kind: 'quit' };
  });
  session.run();
  return report!;
}
