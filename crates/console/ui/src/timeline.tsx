// What happened: lanes over the same range as the charts, and the events as a list whose reasons open.

import { useEffect, useRef } from "preact/hooks";
import type { Happening } from "./api";
import { clock, moment } from "./format";
import { onPoint, point } from "./state";

const MOST_LISTED = 200;
const LANES = ["scaling", "pods", "objects", "traffic"];
const signs: Record<Happening["level"], string> = { normal: "·", decision: "◆", warning: "▲", critical: "✕" };
const words: Record<Happening["level"], string> = { normal: "event", decision: "decision", warning: "warning", critical: "failure" };

interface Props {
  events: Happening[];
  range: [number, number];
  opened: number | null;
  onOpen: (id: number | null) => void;
  filtered: boolean;
}

export function Timeline({ events, range, opened, onOpen, filtered }: Props) {
  const area = useRef<HTMLDivElement>(null);
  const line = useRef<HTMLDivElement>(null);
  const share = (ms: number) => (ms - range[0]) / (range[1] - range[0]);
  const lanes = [...LANES, ...new Set(events.map((event) => event.lane).filter((lane) => !LANES.includes(lane)))]
    .filter((lane) => events.some((event) => event.lane === lane));

  useEffect(() => onPoint((ms) => {
    if (!line.current) return;
    const where = ms === null ? -1 : share(ms);
    line.current.hidden = where < 0 || where > 1;
    line.current.style.left = `${where * 100}%`;
  }), [range[0], range[1]]);

  useEffect(() => {
    if (opened !== null) document.getElementById(`event-${opened}`)?.scrollIntoView({ block: "nearest" });
  }, [opened]);

  const move = (event: PointerEvent) => {
    const box = area.current?.getBoundingClientRect();
    if (!box) return;
    const where = (event.clientX - box.left) / box.width;
    point(where >= 0 && where <= 1 ? range[0] + where * (range[1] - range[0]) : null);
  };
  const long = range[1] - range[0] > 20 * 3600 * 1000;
  const ticks = [0, 0.25, 0.5, 0.75, 1].map((where) => [where, range[0] + where * (range[1] - range[0])] as const);
  const listed = events.slice(-MOST_LISTED).reverse();

  return (
    <>
      {lanes.length > 0 && (
        <div class="lanes" aria-hidden="true">
          <div class="names">{lanes.map((lane) => <span key={lane}>{lane}</span>)}<span /></div>
          <div class="area" ref={area} onPointerMove={move} onPointerLeave={() => point(null)}>
            {lanes.map((lane) => (
              <div class="lane" key={lane}>
                {events.filter((event) => event.lane === lane && share(event.at_ms) >= 0 && share(event.at_ms) <= 1).map((event) => (
                  <button
                    key={event.id} tabIndex={-1} class={`at ${event.level} ${event.id === opened ? "open" : ""}`}
                    style={`left: ${share(event.at_ms) * 100}%`} title={`${clock(event.at_ms)} ${event.object}: ${event.text}`}
                    onClick={() => onOpen(event.id)}
                  >{signs[event.level]}</button>
                ))}
              </div>
            ))}
            <div class="ticks">
              {ticks.map(([where, ms]) => <span key={where} style={`left: ${where * 100}%`}>{long ? moment(ms) : clock(ms)}</span>)}
            </div>
            <div class="now" ref={line} hidden />
          </div>
        </div>
      )}
      <ol class="events" tabIndex={0} aria-label="Events, newest first">
        {listed.map((event) => {
          const isOpen = event.id === opened;
          return (
            <li key={event.id} id={`event-${event.id}`} class={`${event.level} ${isOpen ? "open" : ""}`}>
              <button aria-expanded={isOpen} onClick={() => onOpen(isOpen ? null : event.id)}>
                <time class="num dim" dateTime={new Date(event.at_ms).toISOString()}>{clock(event.at_ms)}</time>
                <span class={`sign ${event.level}`} role="img" aria-label={words[event.level]}>{signs[event.level]}</span>
                <code>{event.object}</code>
                <span class="text">{event.text}</span>
              </button>
              {isOpen && <p class="reason">{event.reason || "No reason was given."}</p>}
            </li>
          );
        })}
        {listed.length === 0 && <li class="empty">{filtered ? "No event matches the filter in this range." : "Nothing has happened in this range."}</li>}
      </ol>
    </>
  );
}
