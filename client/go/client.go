// SPDX-License-Identifier: Apache-2.0

// Package lstmexplain requests predictions and their explanations from an explanation server.
//
//	client, err := lstmexplain.Connect("127.0.0.1:50051")
//	result, err := client.Explain(ctx, lstmexplain.Request{
//		Model:  "sentiment",
//		Inputs: lstmexplain.Inputs{"tokens": lstmexplain.Text("not a bad film")},
//	})
package lstmexplain

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	_ "embed"
	"fmt"
	"net"
	"os"
	"strings"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"

	pb "github.com/lstm-explain/lstm-explain/client/go/explainv1"
)

// The retry policy that is published with the protos for all clients: which calls to retry, when, and for which codes.
//
//go:embed explainv1/service_config.json
var serviceConfig string

// DefaultMaxMessageBytes is the default limit for one message in either direction; WithMaxMessageBytes changes it.
const DefaultMaxMessageBytes = 64 << 20

// Client calls an explanation server. Several goroutines can use it at the same time.
type Client struct {
	connection   *grpc.ClientConn
	explanations pb.ExplanationServiceClient
	models       pb.ModelServiceClient
	operations   pb.OperationServiceClient
}

// Option changes how Connect connects.
type Option func(*options) error

type options struct {
	tls          *tls.Config
	token        func(context.Context) (string, error)
	plainToken   bool
	retries      bool
	messageBytes int
	more         []grpc.DialOption
}

// WithTLS encrypts the connection. With a nil config, the client trusts the authorities of the system.
func WithTLS(config *tls.Config) Option {
	return func(o *options) error {
		if config == nil {
			config = &tls.Config{MinVersion: tls.VersionTLS12}
		}
		o.tls = config
		return nil
	}
}

// WithTLSFiles encrypts the connection with PEM files: the authority that signed the server's certificate (if empty,
// those of the system) and, for mutual TLS, the client's own certificate and key.
func WithTLSFiles(authority, certificate, key string) Option {
	return func(o *options) error {
		o.tls = &tls.Config{MinVersion: tls.VersionTLS12}
		if authority != "" {
			pem, err := os.ReadFile(authority)
			if err != nil {
				return err
			}
			o.tls.RootCAs = x509.NewCertPool()
			if !o.tls.RootCAs.AppendCertsFromPEM(pem) {
				return fmt.Errorf("%s holds no certificate", authority)
			}
		}
		if certificate == "" && key == "" {
			return nil
		}
		pair, err := tls.LoadX509KeyPair(certificate, key)
		o.tls.Certificates = []tls.Certificate{pair}
		return err
	}
}

// WithToken sends a bearer token with every call.
func WithToken(token string) Option {
	return WithTokenSource(func(context.Context) (string, error) { return token, nil })
}

// WithTokenSource calls source for the bearer token of every call.
func WithTokenSource(source func(context.Context) (string, error)) Option {
	return func(o *options) error { o.token = source; return nil }
}

// WithPlaintextToken allows a token over an unencrypted connection that leaves this machine.
func WithPlaintextToken() Option {
	return func(o *options) error { o.plainToken = true; return nil }
}

// WithoutRetries turns retries off. By default, the client retries read-only calls as the published service config
// specifies.
func WithoutRetries() Option {
	return func(o *options) error { o.retries = false; return nil }
}

// WithMaxMessageBytes limits the size of one message in either direction.
func WithMaxMessageBytes(bytes int) Option {
	return func(o *options) error { o.messageBytes = bytes; return nil }
}

// WithDialOptions adds gRPC options, which take precedence.
func WithDialOptions(more ...grpc.DialOption) Option {
	return func(o *options) error { o.more = append(o.more, more...); return nil }
}

// Connect creates a client for host:port. It sends nothing before the first call.
func Connect(address string, chosen ...Option) (*Client, error) {
	o := options{retries: true, messageBytes: DefaultMaxMessageBytes}
	for _, option := range chosen {
		if err := option(&o); err != nil {
			return nil, err
		}
	}
	if o.token != nil && o.tls == nil && !o.plainToken && !isLoopback(address) {
		return nil, fmt.Errorf("a token over an unencrypted connection can be read by others: use TLS, or WithPlaintextToken")
	}
	connection, err := grpc.NewClient(address, o.dialOptions()...)
	if err != nil {
		return nil, err
	}
	return &Client{
		connection, pb.NewExplanationServiceClient(connection), pb.NewModelServiceClient(connection),
		pb.NewOperationServiceClient(connection),
	}, nil
}

func (o options) dialOptions() []grpc.DialOption {
	security := insecure.NewCredentials()
	if o.tls != nil {
		security = credentials.NewTLS(o.tls)
	}
	out := []grpc.DialOption{
		grpc.WithTransportCredentials(security),
		grpc.WithDefaultCallOptions(
			grpc.MaxCallRecvMsgSize(o.messageBytes),
			grpc.MaxCallSendMsgSize(o.messageBytes),
			grpc.MaxRetryRPCBufferSize(o.messageBytes), // gRPC keeps no copy of a larger request to retry
		),
	}
	if o.token != nil {
		out = append(out, grpc.WithPerRPCCredentials(bearer(o.token)))
	}
	if o.retries {
		out = append(out, grpc.WithDefaultServiceConfig(serviceConfig))
	} else {
		out = append(out, grpc.WithDisableRetry())
	}
	return append(out, o.more...)
}

// Close closes the connection and cancels running calls.
func (c *Client) Close() error { return c.connection.Close() }

type bearer func(context.Context) (string, error)

func (b bearer) GetRequestMetadata(ctx context.Context, _ ...string) (map[string]string, error) {
	token, err := b(ctx)
	return map[string]string{"authorization": "Bearer " + token}, err
}

// RequireTransportSecurity is false because Connect has already checked, and loopback is safe without encryption.
func (bearer) RequireTransportSecurity() bool { return false }

func isLoopback(address string) bool {
	if strings.HasPrefix(address, "unix:") {
		return true
	}
	host, _, err := net.SplitHostPort(address)
	ip := net.ParseIP(host)
	return err == nil && (host == "localhost" || ip != nil && ip.IsLoopback())
}
