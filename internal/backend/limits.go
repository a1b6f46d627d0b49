package backend

// Limits bound how fast a volume is read and written. 0 is no bound.
type Limits struct {
	ReadBPS   int64 `json:"readBPS,omitempty"` // bytes a second
	WriteBPS  int64 `json:"writeBPS,omitempty"`
	ReadIOPS  int64 `json:"readIOPS,omitempty"` // operations a second
	WriteIOPS int64 `json:"writeIOPS,omitempty"`
}

// IsZero reports whether there is no bound at all.
func (l Limits) IsZero() bool { return l == Limits{} }
