/**
 * The bare canvas: three thin layers of colour, broken by the grain so that each lets the one beneath through.
 * Noise stretched along the stroke and cut off hard is what a dry brush leaves behind.
 */
export function Scumbles() {
  return (
    <svg className="scumbles" viewBox="4 84 392 216" aria-hidden="true">
      <defs>
        <filter id="dry-brush" filterUnits="userSpaceOnUse" x="0" y="0" width="400" height="400">
          <feTurbulence
            type="fractalNoise"
            baseFrequency="0.008 0.14"
            numOctaves="4"
            seed="7"
            result="grain"
          />
          <feColorMatrix
            in="grain"
            values="0 0 0 0 0  0 0 0 0 0  0 0 0 0 0  0 0 0 -9 5.2"
            result="bristles"
          />
          <feDisplacementMap in="SourceGraphic" in2="grain" scale="26" result="ragged" />
          <feComposite in="ragged" in2="bristles" operator="in" />
        </filter>
      </defs>
      <g fill="none" strokeLinecap="round" strokeWidth="74">
        <path className="stroke-ochre" filter="url(#dry-brush)" d="M54 152C140 116 256 112 344 140" />
        <path className="stroke-madder" filter="url(#dry-brush)" d="M42 204C132 176 250 178 358 198" />
        <path className="stroke-viridian" filter="url(#dry-brush)" d="M62 256C140 232 254 230 340 250" />
      </g>
    </svg>
  );
}
